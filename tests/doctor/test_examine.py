"""The doctor finds the problems of broken environments, and says what to change."""

import json
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from poise import bench, cli
from poise.config import TrainConfig
from poise.doctor import checks, diagnosis, random_play, spawned_process, speed
from poise.doctor import examine as doctor
from poise.doctor.diagnosis import Diagnosis, Finding, Rate
from poise.doctor.examine import examine
from poise.envs.env_factory import find_env_factory
from poise.errors import ConfigError, EnvironmentCheckError, InputError, WorkerError
from poise.launchers.launcher import Launcher
from poise.learning.events import Updated
from poise.presets.choice import built_in
from poise.training.assembly import build_components
from poise.training.launcher_choice import clearly_faster

MODULE = "poise_doctor_toys"
TOYS = '''
import sys
import threading
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

HUNG = threading.Event()


class Healthy(gymnasium.Env):
    """Random numbers; an episode lasts 10 steps on average, 30 at most."""

    metadata = {"render_modes": []}
    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)
    limit: Any = 30
    offset = 0.0
    factor = 1.0
    dtype = np.float32
    total = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self.total += 1
        over = self.limit is not None and self.steps >= self.limit
        return self.observe(), self.reward(), bool(self.np_random.random() < 0.1), over, {}

    def observe(self):
        drawn = self.np_random.uniform(-0.9, 0.9, 2) * self.factor + self.offset
        return drawn.astype(self.dtype)

    def reward(self):
        return 1.0


class Unlimited(Healthy):
    limit = None


class Endless(Healthy):
    limit = None

    def step(self, action):
        return self.observe(), 0.0, False, False, {}


class Unseedable(Healthy):
    def observe(self):
        return np.random.uniform(-0.9, 0.9, 2).astype(np.float32)


class Forgetful(Healthy):
    """A reset that keeps something of the last episode."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        observation[0] = min(self.total, 10) / 10
        return observation, info


class Deterministic(Healthy):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None if seed is None else 7)


class Nan(Healthy):
    def observe(self):
        return np.full(2, np.nan if self.steps == 3 else 0.0, np.float32)


class LateNan(Healthy):
    def observe(self):
        return np.full(2, np.nan if self.total == 500 else 0.0, np.float32)


class LateRaise(Healthy):
    def reward(self):
        if self.total == 500:
            raise RuntimeError("the simulator has gone")
        return 1.0


class LateNanReward(Healthy):
    def reward(self):
        return float("nan") if self.total == 500 else 1.0


class Outside(Healthy):
    offset = 1.0


class Double(Healthy):
    dtype = np.float64


class Large(Healthy):
    observation_space = spaces.Box(-2000.0, 2000.0, (2,), np.float32)
    factor = 1000.0

    def reward(self):
        return -250.0


class Uneven(Healthy):
    def observe(self):
        return super().observe() * np.array([1, 1e-4], np.float32)


class WholeNumbers(Healthy):
    observation_space = spaces.Dict({"level": spaces.Box(0, 900, (1,), np.int32)})

    def observe(self):
        return {"level": self.np_random.integers(0, 900, 1, np.int32)}


class OldApi(Healthy):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class Exiting(Healthy):
    def step(self, action):
        sys.exit(3)


class Hanging(Healthy):
    def step(self, action):
        HUNG.set()
        threading.Event().wait()


class LateHanging(Healthy):
    def step(self, action):
        if self.total == 400:
            HUNG.set()
            threading.Event().wait()
        return super().step(action)


class Unsupported(Healthy):
    observation_space = spaces.Text(5)

    def observe(self):
        return "text"


class Floats(Healthy):
    """An image that is not uint8."""

    observation_space = spaces.Box(0.0, 1.0, (16, 16, 3), np.float32)

    def observe(self):
        return self.np_random.random((16, 16, 3), np.float32)


class Scales(gymnasium.Wrapper):
    """Scales rewards by its own statistics, and raises when it is closed."""

    def __init__(self):
        super().__init__(Healthy())
        self.return_rms = [1.0]

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, reward / 1000, *rest

    def close(self):
        raise OSError("the socket was gone")


class NoSpaces(gymnasium.Env):
    pass


class Pictures(Healthy):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)


class NoPictures(Pictures):
    def render(self):
        raise RuntimeError("no display")


class MissingPackage(Pictures):
    def render(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")


class OtherProcess(Healthy):
    """Only the first process that imports this module may create this environment."""

    def __init__(self):
        import multiprocessing

        if multiprocessing.parent_process() is not None:
            raise RuntimeError("not here")


class Crashing(Healthy):
    def __init__(self):
        import multiprocessing
        import os

        if multiprocessing.parent_process() is not None:
            os._exit(7)


class Factory:
    """Creates a healthy environment, but cannot be pickled."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self):
        return Healthy()


unpicklable = Factory()


def not_made():
    raise RuntimeError("no licence")


def exits():
    sys.exit("no licence")
'''


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("toys")
    (folder / f"{MODULE}.py").write_text(TOYS)
    (folder / "poise_doctor_damaged.py").write_text("class Broken(:\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop(MODULE, None)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play at random only a little longer than until the last toy fails, at step 500."""
    monkeypatch.setattr(random_play, "STEPS", 600)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Fakes of the slow parts: spawned processes and measured training."""
    answers: dict[str, Any] = {"make": ("ok", ""), "render": ("ok", ""), "threads": 1.0}
    answers["processes"] = 1.1

    def ask(payload: bytes, task: str, timeout: float) -> spawned_process.Answer:
        return spawned_process.Answer(*answers[task])

    def training_rate(
        components: Any, launcher: Launcher, workers: int, seconds: float, timeout: float
    ) -> float:
        answer = answers[launcher.name]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return float(answer)

    monkeypatch.setattr(spawned_process, "ask", ask)
    monkeypatch.setattr(speed, "training_rate", training_rate)
    monkeypatch.setattr("poise.training.components.RunComponents.compile", lambda self: None)
    return answers


def toy(name: str) -> str:
    return f"{MODULE}:{name}"


def diagnose(name: str, **settings: Any) -> Diagnosis:
    return examine(TrainConfig(name, workers=1, **settings), 0.001)


def of(diagnosis: Diagnosis, check: str) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.check == check]


def the(diagnosis: Diagnosis, check: str) -> Finding:
    (finding,) = of(diagnosis, check)
    return finding


def failures(diagnosis: Diagnosis) -> set[str]:
    return {finding.check for finding in diagnosis.findings if finding.status == "failure"}


def concerns(diagnosis: Diagnosis) -> set[str]:
    return {finding.check for finding in diagnosis.findings if finding.status != "ok"}


@pytest.mark.usefixtures("fakes")
def test_closing_that_raises_is_one_warning_and_rewards_are_the_true_ones() -> None:
    for _ in range(2):
        with pytest.warns(RuntimeWarning) as caught:
            found = diagnose(toy("Scales"))
        said = [str(one.message) for one in caught]
        assert sum("raised when it was closed" in one for one in said) == 1
        assert sum("Scales keeps statistics of rewards" in one for one in said) == 1
        assert failures(found) == set()
        assert the(found, "rewards").message.startswith("always 1; ")


@pytest.mark.usefixtures("fakes")
def test_a_healthy_environment_has_nothing_to_mend() -> None:
    told: list[Finding | Rate] = []
    found = examine(TrainConfig("CartPole-v1", workers=2), 0.001, tell=told.append)
    assert concerns(found) == set()
    assert not found.failed
    assert "9,155 parameters" in the(found, "network").message
    assert "compiled" in the(found, "world").message
    assert "vector or copies" in the(found, "world").message
    assert "auto takes threads" in the(found, "launcher").message
    assert "500 steps" in the(found, "time limit").message
    assert [rate.what for rate in found.rates] == [
        "environment alone, one copy",
        "training, 2 workers, threads",
        "training, 2 workers, processes",
    ]
    # Two workers are those of the preset.
    assert found.command == "poise train CartPole-v1"
    assert [one for one in told if isinstance(one, Finding)] == list(found.findings)
    assert [one for one in told if isinstance(one, Rate)] == list(found.rates)


@pytest.mark.usefixtures("fakes")
def test_a_healthy_environment_of_ones_own() -> None:
    found = diagnose(toy("Healthy"))
    assert concerns(found) == set()
    assert "copies" in the(found, "world").message
    assert "processes" in the(found, "launcher").message
    assert "truncated" in the(found, "time limit").message
    assert found.rates[1].what == "environment alone, 8 copies (copies)"
    assert found.command == f"poise train {toy('Healthy')} --workers 1"


@pytest.mark.parametrize("broken", ["Unseedable", "Forgetful"])
@pytest.mark.usefixtures("fakes")
def test_episodes_that_a_seed_does_not_repeat(broken: str) -> None:
    found = diagnose(toy(broken))
    assert "seeding" in failures(found)
    assert "super().reset(seed=seed)" in the(found, "seeding").advice
    expected = "two copies" if broken == "Unseedable" else "two resets of one copy"
    assert expected in the(found, "seeding").message


@pytest.mark.usefixtures("fakes")
def test_seeds_that_make_no_difference_are_a_warning() -> None:
    found = diagnose(toy("Deterministic"))
    assert the(found, "seeding").status == "warning"
    assert not failures(found) - {"gymnasium"}


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        ("Nan", "contract", ["observation is not finite"]),
        ("OldApi", "contract", ["must return", "the old API had no truncated"]),
        ("LateNan", "random play", ["not finite", "500 random steps", "seed 0", "last action"]),
        (
            "LateRaise",
            "random play",
            ["RuntimeError: the simulator has gone", "499", "last action"],
        ),
        ("LateNanReward", "random play", ["the reward nan", "499"]),
        ("Unsupported", "spaces", ["observation is Text", "cannot learn from"]),
        ("NoSpaces", "spaces", ["observation_space"]),
    ],
)
@pytest.mark.usefixtures("fakes")
def test_what_would_end_a_run_is_a_failure(broken: str, check: str, words: list[str]) -> None:
    found = diagnose(toy(broken))
    assert check in failures(found)
    finding = the(found, check)
    for word in words:
        assert word in finding.message
    assert finding.advice
    assert found.command is None
    assert found.rates == ()


@pytest.mark.usefixtures("fakes")
def test_an_environment_that_exits_is_a_failure() -> None:
    found = diagnose(toy("Exiting"))
    assert "SystemExit" in the(found, "contract").message
    assert found.failed


@pytest.mark.parametrize(
    ("broken", "check"), [("Hanging", "contract"), ("LateHanging", "random play")]
)
@pytest.mark.usefixtures("fakes")
def test_a_hang_ends_the_examination(
    broken: str, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines = []

    def run_with_deadline(work: Callable[[], Any], timeout: float, name: str) -> Any:
        """Like the real function, but the deadline passes as soon as the environment hangs."""
        deadlines.append(timeout)
        outcome: list[Any] = []
        thread = threading.Thread(target=lambda: outcome.append(work()), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.01)
            if hung.is_set():
                hung.clear()
                raise EnvironmentCheckError("has not answered")
        return outcome[0]

    find_env_factory(TrainConfig(toy(broken)).environment_choice)
    hung = sys.modules[MODULE].HUNG
    monkeypatch.setattr(doctor, "run_with_deadline", run_with_deadline)
    found = diagnose(toy(broken), worker_timeout=77.0)
    assert failures(found) == {check}
    assert found.findings[-1].check == check
    assert "--worker-timeout" in found.findings[-1].advice
    assert found.command is None
    assert min(deadlines) >= 77.0


@pytest.mark.parametrize(
    ("broken", "check", "word", "flags"),
    [
        ("Outside", "observations", "is not between -1 and 1", ""),
        ("Double", "observations", "dtype float64", ""),
        ("Uneven", "observations", "different scales", "--normalize-observations on"),
        ("Unlimited", "time limit", "ended on their own", ""),
        ("Floats", "network", "flattened", ""),
    ],
)
@pytest.mark.usefixtures("fakes")
def test_what_a_run_survives_is_a_warning(broken: str, check: str, word: str, flags: str) -> None:
    found = diagnose(toy(broken))
    finding = the(found, check)
    assert finding.status == "warning"
    assert word in f"{finding.message} {finding.advice}"
    assert finding.advice
    assert failures(found) <= {"gymnasium"}
    command = f"poise train {toy(broken)} --workers 1 {flags}"
    assert found.command == command.strip()


@pytest.mark.usefixtures("fakes")
def test_no_episode_that_ends_and_no_reward() -> None:
    found = diagnose(toy("Endless"))
    # How many depends on how busy the machine is.
    assert re.search(r"no episode ended in [\d,]+ random steps", the(found, "time limit").message)
    assert "--evaluation-step-limit" in the(found, "time limit").message
    assert "TimeLimit" in the(found, "time limit").advice
    assert "no difference in reward" in the(found, "rewards").message
    assert the(found, "rewards").status == "warning"
    assert (found.command or "").endswith("--entropy-coefficient 0.01")


@pytest.mark.usefixtures("fakes")
def test_a_reward_that_random_play_never_sees_differ_is_not_in_order() -> None:
    """Like MountainCar: a reward of -1 per step, and random actions do not reach the goal."""
    found = diagnose("MountainCar-v0")
    finding = the(found, "rewards")
    assert finding.status == "warning"
    assert "always -1" in finding.message
    assert "random play sees no difference in reward" in finding.message
    assert "--entropy-coefficient 0.01" in finding.advice
    assert (found.command or "").endswith("--entropy-coefficient 0.01")
    # One reward a step, but the number of steps is what is to be learned.
    assert the(diagnose("CartPole-v1"), "rewards").status == "ok"


@pytest.mark.parametrize(
    ("rewards", "returns", "truncated", "alike"),
    [
        ([-1, -1, -1], [], False, True),
        ([0, 0, 0], [0], False, True),
        ([-1, -1, -1], [-3], True, True),
        ([-1, -1, -1], [-3], False, False),
        ([-1, -1, -1], [-1, -2], False, False),
        ([-1, -1, -1, -1], [-2, -2], True, True),
        ([-1, -1, -1, 0], [-2, -2], False, False),
    ],
)
def test_what_random_play_sees(
    rewards: list[int], returns: list[int], truncated: bool, alike: bool
) -> None:
    play = random_play.Play(
        steps=len(rewards),
        lengths=[],
        returns=[float(one) for one in returns],
        truncated=truncated,
        rewards=np.array(rewards, np.float64),
        peaks=np.zeros(0),
        outside=0,
        example="",
        problem="",
        limit=None,
    )
    assert random_play.sees_no_difference(play) is alike


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    "name", ["MountainCar-v0", "Endless", "Large", "Uneven", "Unlimited", "Outside", "Healthy"]
)
def test_settings_that_are_advised_are_in_the_recommended_line(name: str) -> None:
    """Replace alternatives in brackets by the first one."""
    if name == "MountainCar-v0":
        found = diagnose(name)
    else:
        normalize = "auto" if name == "Uneven" else "off"
        found = diagnose(toy(name), normalize_observations=normalize)
    advice = " ".join(re.sub(r"[(].*?[)]", "", finding.advice) for finding in found.findings)
    advised = re.findall(r"--[a-z-]+ (?:on|[0-9.e-]+)", advice)
    assert [setting for setting in advised if setting not in (found.command or "")] == []
    assert bool(advised) is (name not in ("Unlimited", "Outside", "Healthy"))


@pytest.mark.usefixtures("fakes")
def test_large_numbers_are_scaled_by_the_recommended_command() -> None:
    settings = {"normalize_observations": "off", "image_axes": "none"}
    found = diagnose(toy("Large"), envs_per_worker=3, **settings)
    assert the(found, "observations").flags == ("--normalize-observations", "on")
    assert "-250" in the(found, "rewards").message
    words = shlex.split(found.command or "")
    assert words[:3] == ["poise", "train", toy("Large")]
    assert words[words.index("--reward-scale") + 1] == "0.004"
    assert words[words.index("--envs-per-worker") + 1] == "3"
    assert words[words.index("--normalize-observations") + 1] == "on"
    assert words[words.index("--image-axes") + 1] == "none"


@pytest.mark.usefixtures("fakes")
def test_what_is_normalised_or_scaled_by_bounds_is_no_warning() -> None:
    for name, said in (("Large", "2 numbers are normalised"), ("WholeNumbers", "by their bounds")):
        found = diagnose(toy(name))
        assert said in the(found, "scaling").message
        assert the(found, "observations").status == "ok"


@pytest.mark.usefixtures("fakes")
def test_a_time_limit_is_found_among_the_wrappers(monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium

    find_env_factory(TrainConfig(toy("Unlimited")).environment_choice)
    module = sys.modules[MODULE]
    wrap = lambda env: gymnasium.wrappers.TimeLimit(env, 1_234)  # noqa: E731
    monkeypatch.setattr(module, "limited", wrap, raising=False)
    found = diagnose(toy("Unlimited"), wrappers=(toy("limited"),))
    assert "1,234" in the(found, "time limit").message
    assert f"--wrappers {toy('limited')}" in (found.command or "")


def test_what_does_not_pickle_runs_in_threads(fakes: dict[str, Any]) -> None:
    found = diagnose(toy("unpicklable"))
    assert the(found, "processes").status == "failure"
    assert "does not pickle" in the(found, "processes").message
    assert 'launcher="threads"' in the(found, "processes").advice
    assert "--launcher threads" in (found.command or "")


def test_what_a_process_cannot_make_is_no_failure_where_threads_are_taken(
    fakes: dict[str, Any],
) -> None:
    fakes["make"] = ("failed", "no licence")
    assert the(diagnose(toy("Healthy")), "processes").status == "failure"
    compiled = diagnose("CartPole-v1")
    assert the(compiled, "processes").status == "warning"
    assert "no licence" in the(compiled, "processes").message
    assert compiled.command == "poise train CartPole-v1 --workers 1"


def test_what_cannot_be_rendered_is_no_failure(fakes: dict[str, Any]) -> None:
    fakes["render"] = ("missing", "pygame is not installed")
    found = diagnose(toy("Pictures"))
    assert the(found, "rendering").status == "ok"
    assert "poise[render]" in the(found, "rendering").advice
    fakes["render"] = ("failed", "no display")
    found = diagnose(toy("Pictures"))
    assert the(found, "rendering").status == "warning"
    assert "no display" in the(found, "rendering").message
    assert not found.failed


@pytest.mark.parametrize("name", ["CartPole-v1", "Healthy"])
def test_the_doctor_recommends_what_auto_takes(name: str, fakes: dict[str, Any]) -> None:
    environment = name if "-" in name else toy(name)
    config = TrainConfig(environment, workers=1)
    components = build_components(config, find_env_factory(config.environment_choice))
    usual = components.placement.launcher.name
    other = "threads" if usual == "processes" else "processes"
    fakes |= {usual: 100.0, other: 124.0}
    found = diagnose(environment)
    assert the(found, "launcher").status == "ok"
    assert f"auto takes {usual}" in the(found, "launcher").message
    assert f"{other} was faster here, but not clearly" in the(found, "launcher").message
    assert "--launcher" not in (found.command or "")
    # Measured once only: there is nothing to be decided.
    assert len([rate for rate in found.rates if "training" in rate.what]) == 2


def test_and_departs_from_it_only_for_one_that_is_clearly_faster_twice(
    fakes: dict[str, Any],
) -> None:
    fakes |= {"threads": [200.0, 150.0], "processes": [100.0, 100.0]}
    found = diagnose(toy("Healthy"))
    finding = the(found, "launcher")
    assert finding.status == "warning"
    assert "auto takes processes" in finding.message
    assert "1.5 times as fast in two measurements" in finding.message
    assert finding.advice == "--launcher threads"
    assert found.command == f"poise train {toy('Healthy')} --workers 1 --launcher threads"
    assert [rate.what for rate in found.rates][-2:] == [
        "training, 1 worker, threads, again",
        "training, 1 worker, processes, again",
    ]
    # A busy moment of the machine is no reason.
    fakes |= {"threads": [200.0, 110.0], "processes": [100.0, 100.0]}
    found = diagnose(toy("Healthy"))
    assert the(found, "launcher").status == "ok"
    assert "--launcher" not in (found.command or "")
    # Nor is a second measurement that fails.
    fakes |= {"threads": [200.0, RuntimeError("gone")], "processes": [100.0, 100.0]}
    found = diagnose(toy("Healthy"))
    assert failures(found) == {"training"}
    assert "--launcher" not in (found.command or "")


def test_a_launcher_that_was_asked_for_is_kept(fakes: dict[str, Any]) -> None:
    fakes |= {"threads": 100.0, "processes": 300.0}
    found = diagnose("CartPole-v1", launcher="threads")
    assert of(found, "launcher") == []
    assert found.command == "poise train CartPole-v1 --workers 1 --launcher threads"


def test_what_is_clearly_faster() -> None:
    slower = {"threads": 100.0, "processes": 50.0}
    faster = {"threads": 100.0, "processes": 200.0}
    by_little = {"threads": 100.0, "processes": 130.0}
    assert clearly_faster("threads", []) is None
    assert clearly_faster("threads", [{"processes": 9.0}]) is None
    assert clearly_faster("threads", [slower]) is None
    assert clearly_faster("threads", [faster]) == ("processes", 2.0)
    assert clearly_faster("threads", [faster, by_little]) == ("processes", 1.3)
    assert clearly_faster("threads", [faster, by_little, slower]) is None
    assert clearly_faster("processes", [slower]) == ("threads", 2.0)


def test_training_that_fails_is_a_failure(fakes: dict[str, Any]) -> None:
    fakes["threads"] = WorkerError(0, "toy", 3, "RuntimeError: late")
    found = diagnose("CartPole-v1")
    assert failures(found) == {"training"}
    assert "RuntimeError: late" in the(found, "training").message
    assert "--launcher processes" in (found.command or "")
    fakes["processes"] = RuntimeError("too")
    found = diagnose("CartPole-v1")
    assert [finding.status for finding in of(found, "training")] == ["failure", "failure"]
    assert found.command is None


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("CartPol-v1", "similar name"),
        ("poise_no_such_module:Env", "cannot be imported"),
        ("poise_doctor_damaged:Broken", "SyntaxError"),
        (toy("NoSuchClass"), "has no NoSuchClass"),
        (toy("not_made"), "no licence"),
        (toy("exits"), "no licence"),
    ],
)
def test_what_cannot_be_made_at_all_is_bad_input(
    name: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", name]) == 2
    printed = capsys.readouterr()
    assert word in printed.err
    assert "Traceback" not in printed.err + printed.out


def test_impossible_settings_are_bad_input() -> None:
    with pytest.raises(ConfigError, match="seconds"):
        examine(TrainConfig("CartPole-v1"), 0.0)
    with pytest.raises(ConfigError, match="seconds"):
        examine(TrainConfig("CartPole-v1"), float("inf"))
    with pytest.raises(InputError, match="world"):
        examine(TrainConfig(toy("Healthy"), world="compiled"))


@pytest.mark.usefixtures("fakes")
def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "CartPole-v1", "--seconds", "0.001", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "ok        seeding" in printed
    assert "1 steps/s" in printed
    assert "Recommended:\n  poise train CartPole-v1" in printed
    assert cli.main(["doctor", toy("OldApi"), "--seconds", "0.001"]) == 1
    printed = capsys.readouterr().out
    assert "failure   contract" in printed
    assert "There are failures" in printed


@pytest.mark.usefixtures("fakes")
def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", toy("LateNan"), "--seconds", "0.001", "--workers", "1", "--json"]
    assert cli.main(arguments) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["failed"] is True
    assert content["command"] is None
    assert {"check", "status", "message", "advice", "flags"} <= content["findings"][0].keys()


def test_a_table_keeps_its_width_and_its_flags_whole() -> None:
    finding = Finding("seeding", "failure", "word " * 60, "--normalize-observations " * 12)
    rows = diagnosis.describe(finding, 80).splitlines()
    assert all(len(row) <= 80 for row in rows)
    assert rows[0].startswith("failure   seeding ")
    assert sum(row.count("--normalize-observations") for row in rows) == 12
    assert "a million steps in 3.0 h" in diagnosis.describe(Rate("x", 1e6 / 10_800))
    assert "a million steps in 10.0 min" in diagnosis.describe(Rate("x", 1e6 / 600))
    assert "a million steps in 2.0 s" in diagnosis.describe(Rate("x", 5e5))


def test_speed_is_counted_from_when_all_workers_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(bench.time, "monotonic", lambda: now)
    window = bench.Window(2)

    def update(worker: int, steps: int) -> None:
        window(Updated(worker, 1, steps, {}, staleness=0, learning_rate=0.0))

    for moment, worker, steps in [(1.0, 0, 10), (2.0, 0, 20), (5.0, 1, 30)]:
        now = moment
        update(worker, steps)
    assert window.began == 5.0
    assert window.rate() is None
    for moment, worker, steps in [(6.0, 1, 50), (9.0, 0, 70)]:
        now = moment
        update(worker, steps)
    assert window.updates == 2
    assert window.rate() == (70 - 30) / (9.0 - 5.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "outcome", "word"),
    [
        ("Healthy", "make", "ok", ""),
        ("OtherProcess", "make", "failed", "not here"),
        ("Crashing", "make", "failed", "exit code 7"),
        ("Pictures", "render", "ok", "(4, 4, 3)"),
        ("NoPictures", "render", "failed", "no display"),
        ("MissingPackage", "render", "missing", "pygame"),
    ],
)
def test_a_spawned_process_answers(
    name: str, task: spawned_process.Task, outcome: str, word: str
) -> None:
    config = TrainConfig(toy(name), workers=1)
    subject = checks.Subject(find_env_factory(config.environment_choice), config, 0.1)
    answer = spawned_process.ask(spawned_process.payload_of(subject), task, 120.0)
    assert answer.outcome == outcome
    assert word in answer.text


@pytest.mark.slow
def test_a_spawned_process_that_does_not_answer_is_left_behind() -> None:
    config = TrainConfig(toy("Healthy"), workers=1)
    subject = checks.Subject(find_env_factory(config.environment_choice), config, 0.1)
    answer = spawned_process.ask(spawned_process.payload_of(subject), "make", 0.0)
    assert answer.outcome == "failed"
    assert "--worker-timeout" in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CartPole-v1", "Healthy"])
def test_nothing_is_faked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    environment = name if "-" in name else toy(name)
    arguments = ["doctor", environment, "--seconds", "0.1", "--workers", "1", "--json"]
    assert cli.main(arguments) == 0, capsys.readouterr()
    content = json.loads(capsys.readouterr().out)
    measured = {rate["what"]: rate["steps_per_second"] for rate in content["rates"]}
    for launcher in ("threads", "processes"):
        assert measured[f"training, 1 worker, {launcher}"] > 0


@pytest.mark.slow
def test_bench_measures_as_before() -> None:
    (row,) = bench.bench("CartPole-v1", [1], [8], 0.1)
    assert (row.workers, row.envs_per_worker) == (1, 8)
    assert row.steps_per_second > 0
    assert row.fused_steps_per_second > 0


@pytest.mark.usefixtures("fakes")
def test_the_preset_is_examined_and_recommended() -> None:
    found = diagnose("Pendulum-v1")
    assert "training uses the preset pendulum (ppo)" in the(found, "preset").message
    assert "64 + 64 tanh units" in the(found, "network").message
    assert "normalised for the loss" in the(found, "rewards").message
    # diagnose() asks for one worker; otherwise the preset says how many.
    assert found.command == "poise train Pendulum-v1 --workers 1"


def test_a_preset_for_other_actions_is_turned_off_in_the_recommended_line() -> None:
    found = checks.preset_finding(built_in()["pendulum"], spaces.Discrete(2))
    assert "is for continuous actions" in found.message
    assert (found.status, found.flags) == ("warning", ("--preset", "none"))
