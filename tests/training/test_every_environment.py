"""Environments end to end: every space trains and replays; every fault gives one message."""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

import poise
from poise.cli import main
from poise.config import TrainConfig
from poise.envs import registry
from poise.errors import ConfigError, EnvironmentNotFoundError
from poise.launchers import process_pool, threads
from poise.training.assembly import build_components
from poise.training.worker_factory import SpawnedWorkerFactory

from ..environments import ACTION_SPACES, OBSERVATION_SPACES, RELEASE, Ends, Faulty, Toy
from ..hanging import leap_at

ROOT = Path(__file__).parents[2]
NAME = "tests.environments:"
TINY = {
    "workers": 2,
    "envs_per_worker": 2,
    "rollout_length": 5,
    "max_steps": 200,
    "hidden_sizes": (4,),
    "selection_episodes": 3,
    "verification_episodes": 3,
}
PATIENCE = 60.0

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """Let worker processes and import paths find ``tests.environments``."""
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "LEAVE_SECONDS", 0.5)
    before = set(threading.enumerate())
    yield
    RELEASE.set()
    # The threads that compile stay, for later runs.
    new = {one for one in threading.enumerate() if not one.name.startswith("poise-compile")}
    for thread in new - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    RELEASE.clear()
    assert not multiprocessing.active_children()


# --- Every space


QUICK = [
    ("matrix", "narrow float64 box", "threads"),
]
LONGER = [
    ("image, no channel", "nested", "threads"),
    ("everything", "discrete from 5", "serial"),
    ("keys of every kind", "keys of every kind", "serial"),
]
PAIRS = [
    *(pytest.param(*case, id=" - ".join(case)) for case in QUICK),
    *(pytest.param(*case, id=" - ".join(case), marks=pytest.mark.slow) for case in LONGER),
    *(
        pytest.param("vector", name, launcher, marks=pytest.mark.slow)
        for name in ACTION_SPACES
        for launcher in ("serial", "threads")
    ),
    *(
        pytest.param(name, "discrete", launcher, marks=pytest.mark.slow)
        for name in OBSERVATION_SPACES
        for launcher in ("serial", "threads")
    ),
]


@pytest.mark.parametrize(("observation", "action", "launcher"), PAIRS)
def test_every_space_trains_saves_loads_and_replays(
    tmp_path: Path, observation: str, action: str, launcher: Any
) -> None:
    """`Toy` raises if an action is outside its space, or if it is stepped after an end."""
    seen, acted = OBSERVATION_SPACES[observation], ACTION_SPACES[action]

    def make() -> Toy:
        return Toy(seen, acted)

    scale = "network" if launcher == "threads" else "free"
    result = poise.train(
        make, run_dir=tmp_path / "run", launcher=launcher, gaussian_scale=scale, **TINY
    )
    assert result.summary["steps"] >= 200
    assert result.summary["evaluation"]["episodes"] == 3
    policy = poise.load(result.folder)
    assert policy.observation_space == seen
    assert policy.action_space == acted
    space = make()
    space.reset(seed=0)
    for sampled in (False, True):
        generator = np.random.default_rng(0)
        chosen = policy.act(space.observation_space.sample(), not sampled, generator)
        assert acted.contains(chosen), chosen
    score = poise.evaluate(policy, episodes=2, environment=make, greedy=False)
    assert score.episodes == 2
    report = poise.replay(result.folder, environment=make)
    assert report.updates == result.summary["updates"]
    assert set(report.compared) == {"final.safetensors", "best.safetensors"}


def test_observations_are_normalised_saved_and_replayed(tmp_path: Path) -> None:
    result = poise.train(
        Toy, run_dir=tmp_path / "run", launcher="threads", normalize_observations="on", **TINY
    )
    final = poise.load(result.folder, "final")
    mean, scale = final.statistics
    # About 200 standard normal observations.
    assert np.abs(mean).max() < 0.5
    assert np.abs(scale - 1).max() < 0.5
    assert np.any(mean != 0)
    observation = np.ones(3, np.float32)
    seen = (observation - mean) * scale
    wanted, _, _ = final.agent.apply(final.parameters, seen, (), np.bool_(True))
    assert final.act(observation) == 5 + int(np.argmax(wanted))
    poise.replay(result.folder, environment=Toy)


def test_there_must_be_numbers_to_normalise(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no numbers"):
        poise.train(
            lambda: Toy(OBSERVATION_SPACES["discrete"]),
            run_dir=tmp_path / "run",
            normalize_observations="on",
            **TINY,
        )


@pytest.mark.parametrize("observations", ["on", pytest.param("off", marks=pytest.mark.slow)])
def test_normalised_rewards_change_what_is_learned_but_no_policy_file(
    observations: Any, tmp_path: Path
) -> None:
    settings = {**TINY, "normalize_observations": observations, "launcher": "threads"}
    result = poise.train(Toy, run_dir=tmp_path / "run", normalize_rewards="on", **settings)
    final = poise.load(result.folder, "final")
    assert [len(one) for one in final.statistics] == ([3, 3] if observations == "on" else [])
    poise.replay(result.folder, environment=Toy)


# --- Processes, from end to end


@pytest.mark.slow
def test_processes_replay_as_exactly_as_threads(tmp_path: Path) -> None:
    settings = {**TINY, "normalize_observations": "on", "normalize_rewards": "on"}
    result = poise.train(f"{NAME}Ends", run_dir=tmp_path / "run", launcher="processes", **settings)
    assert result.summary["launcher"] == "processes"
    assert result.summary["restarts"] == 0
    report = poise.replay(result.folder, trust=True)
    assert report.updates == result.summary["updates"]


@pytest.mark.slow
def test_one_worker_learns_the_same_everywhere(tmp_path: Path) -> None:
    settings = {**TINY, "workers": 1, "normalize_observations": "on"}
    hashes = set()
    for launcher in ("serial", "threads", "processes"):
        folder = tmp_path / launcher
        poise.train(Ends, run_dir=folder, launcher=launcher, **settings)
        hashes.add(poise.replay(folder, environment=Ends).final_hash)
    assert len(hashes) == 1


class DiesOnce(Ends):
    """Kills its process in the middle of a step, unless that has already happened."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = Path(marker)
        self.life = 0

    def step(self, action: Any) -> Any:
        self.life += 1
        if self.life == 30 and multiprocessing.parent_process() and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


@pytest.mark.slow
def test_a_run_whose_worker_was_killed_replays(tmp_path: Path) -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    marker = str(tmp_path / "marker")

    def make() -> DiesOnce:
        return DiesOnce(marker)

    try:
        with pytest.warns(RuntimeWarning, match="killed by SIGKILL; started again"):
            result = poise.train(make, run_dir=tmp_path / "run", launcher="processes", **TINY)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert result.summary["restarts"] == 1
    assert result.summary["stopped"] == "max_steps"
    poise.replay(result.folder, environment=make)


# --- Bad input


def train(folder: Path, *arguments: str, launcher: str = "threads") -> int:
    return main(
        [
            "train",
            f"{NAME}Faulty",
            "--run-dir",
            str(folder),
            "--quiet",
            *("--workers", "1", "--envs-per-worker", "2", "--rollout-length", "5"),
            *("--max-steps", "400", "--hidden-sizes", "4", "--launcher", launcher),
            *("--selection-episodes", "2", "--verification-episodes", "2"),
            *arguments,
        ]
    )


Said = Callable[[], str]
DEADLINE = ("--worker-timeout", str(PATIENCE))


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An argument of `Faulty`: once it hangs, every deadline has passed, and not before."""
    leap_at(tmp_path / "mark", monkeypatch)
    return f"mark={tmp_path / 'mark'}"


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    """Return the one error message; before it, at most the environment's traceback is printed."""

    def read() -> str:
        text = capfd.readouterr().err
        assert text.count("Traceback") <= 1
        assert "launchers" not in text
        lines = [line for line in text.splitlines() if line.startswith("poise: ")]
        assert len(lines) == 1, text
        return lines[0]

    return read


BEFORE = [
    ("reset raises", "RuntimeError: the pole is missing"),
    ("reset nan", "not finite"),
    ("reset alone", "reset must return (observation, info dict)"),
    ("raises", "RuntimeError: the pole broke"),
    ("shape", "shape (3,), but its space says (2,)"),
    ("dtype", "dtype <U1"),
    ("nan", "not finite"),
    ("nan reward", "the reward nan"),
    ("four", "the old API had no truncated"),
    ("make", "RuntimeError: no licence"),
    ("import", "pip install 'poise[mujoco]'"),
]


@pytest.mark.parametrize(("fault", "message"), BEFORE)
def test_an_environment_that_is_broken_from_the_start_is_bad_input(
    tmp_path: Path, said: Said, fault: str, message: str
) -> None:
    assert train(tmp_path / "run", "--env-kwargs", f"fault={fault}", "at=2") == 2
    text = said()
    assert message in text
    assert "Faulty" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", ["reset hangs", "hangs"])
def test_an_environment_that_hangs_from_the_start_is_bad_input(
    tmp_path: Path, said: Said, fault: str, mark: str
) -> None:
    arguments = ("--env-kwargs", f"fault={fault}", mark, *DEADLINE)
    assert train(tmp_path / "run", *arguments) == 2
    assert f"has not answered for {PATIENCE:g} s (--worker-timeout)" in said()


# The check before training takes up to 70 steps and 20 resets of a copy.
DURING = [
    ("raises", "at=103", "RuntimeError: the pole broke"),
    ("raises two lines", "at=103", "the pole broke"),
    ("reset raises", "at=28", "RuntimeError: the pole is missing"),
    ("reset nan", "at=28", "not finite"),
    ("shape", "at=103", "shape (3,), but its space says (2,)"),
    ("dtype", "at=103", "dtype <U1"),
    ("nan", "at=103", "not finite"),
    ("nan reward", "at=103", "reward nan"),
    ("text reward", "at=103", "a number as reward"),
    ("four", "at=103", "step must return"),
]


def check_saved(folder: Path, updates: int) -> None:
    """Check that policies, journal and summary are saved; the summary counts the updates."""
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped"] == "failed"
    assert summary["updates"] == updates
    for which in ("best", "final"):
        policy = poise.load(folder, which)  # type: ignore[arg-type]
        assert policy.act(np.zeros(2, np.float32)) in (0, 1)


@pytest.mark.parametrize(
    ("launcher", "fault", "at", "message"),
    [
        *(
            pytest.param(
                "threads", *case, marks=() if case[0] in ("raises", "four") else pytest.mark.slow
            )
            for case in DURING
        ),
        *(pytest.param("serial", *case, marks=pytest.mark.slow) for case in DURING[:3]),
        *(pytest.param("processes", *case, marks=pytest.mark.slow) for case in DURING),
    ],
)
def test_a_later_fault_is_a_failure_and_the_run_is_saved(
    tmp_path: Path, said: Said, launcher: str, fault: str, at: str, message: str
) -> None:
    folder = tmp_path / "run"
    assert train(folder, "--env-kwargs", f"fault={fault}", at, launcher=launcher) == 1
    text = said()
    assert message in text
    assert "worker 0 failed in tests.environments:Faulty (environment seed " in text
    assert "copy 0, seed " in text
    if "reset" in fault:
        assert "no action yet" in text
    else:
        assert "last action " in text
    # Counting the steps that only reset, the 103rd step is in the 25th rollout of 5 steps, and the
    # 28th reset in the 33rd.
    check_saved(folder, updates=32 if "reset" in fault else 24)


def test_an_array_of_one_number_is_accepted_as_a_reward(tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--env-kwargs", "fault=array reward", "at=103") == 0


def test_an_array_of_one_number_is_accepted_in_the_check(tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--env-kwargs", "fault=array reward", "at=3") == 0


@pytest.mark.parametrize(
    ("launcher", "fault"),
    [
        ("threads", "hangs"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("threads", "reset hangs"),
                ("processes", "hangs"),
                ("processes", "reset hangs"),
            ]
        ),
    ],
)
def test_a_later_hang_ends_at_its_deadline(
    tmp_path: Path,
    said: Said,
    launcher: str,
    fault: str,
    mark: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at, updates = ("at=103", 24) if fault == "hangs" else ("at=28", 32)
    monkeypatch.setattr(process_pool, "LEAVE_SECONDS", 0.5)
    arguments = ("--env-kwargs", f"fault={fault}", at, mark, *DEADLINE, "--max-restarts", "0")
    assert train(tmp_path / "run", *arguments, launcher=launcher) == 1
    text = said()
    assert "worker 0" in text
    assert f"has not answered for {PATIENCE:g} s (--worker-timeout); what was learned" in text
    check_saved(tmp_path / "run", updates=updates)


@pytest.mark.parametrize("launcher", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_fault_in_an_evaluation_is_a_failure_and_the_run_is_saved(
    tmp_path: Path, said: Said, launcher: str
) -> None:
    """Training ends after 20 steps of each copy; the copies for evaluation take more."""
    arguments = ("--max-steps", "40", "--env-kwargs", "fault=raises", "at=85", "episode=100")
    assert train(tmp_path / "run", *arguments, launcher=launcher) == 1
    text = said()
    assert "RuntimeError: the pole broke (in evaluation, seed " in text
    assert "last action " in text
    check_saved(tmp_path / "run", updates=4)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["threads", "processes"])
def test_a_hang_in_an_evaluation_ends_at_its_deadline(
    tmp_path: Path, said: Said, launcher: str, mark: str
) -> None:
    arguments = ("--max-steps", "40", "--env-kwargs", "fault=hangs", "at=85", "episode=100", mark)
    assert train(tmp_path / "run", *arguments, *DEADLINE, launcher=launcher) == 1
    assert f"has not answered for {PATIENCE:g} s" in said()
    check_saved(tmp_path / "run", updates=4)


def test_an_environment_that_cannot_be_pickled_is_bad_input(tmp_path: Path) -> None:
    lock = threading.Lock()

    def make() -> Faulty:
        with lock:
            return Faulty()

    with pytest.raises(ConfigError, match="cannot be sent to a worker process") as caught:
        poise.train(make, run_dir=tmp_path / "run", launcher="processes", **TINY)
    assert caught.value.exit_code == 2
    assert 'launcher="threads"' in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPole-v11", "CartPole-v1"),
        ("tests.environments:Nothing", "has no Nothing"),
        ("tests.environments:Coridor", "has no Coridor; a similar name is Corridor"),
        ("tests.environments.Toy", "write tests.environments:Toy"),
        ("tests.nowhere:Toy", "cannot be imported"),
        ("tests.environments:ACTION_SPACES", "cannot be called"),
    ],
)
def test_a_missing_environment_is_bad_input(
    tmp_path: Path, said: Said, name: str, message: str
) -> None:
    assert main(["train", name, "--run-dir", str(tmp_path / "run"), "--quiet"]) == 2
    assert message in said()


# --- A user's own compiled environment


class Walk(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """A walk on a line, in JAX: going right is rewarded."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2)

    def initial(self, rng: Any, params: Any = None) -> Any:
        return jnp.zeros(2)

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        return jnp.stack([state[0] + 2 * action - 1, state[1] + 1])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return action * 1.0

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.abs(state[0]) >= 5


class PlainWalk(gymnasium.Env[Any, Any]):
    """The same environment in plain Python."""

    observation_space, action_space = Walk.observation_space, Walk.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = np.zeros(2, np.float32)
        return self.state.copy(), {}

    def step(self, action: Any) -> Any:
        self.state += (2 * int(action) - 1, 1)
        return self.state.copy(), float(action), bool(abs(self.state[0]) >= 5), False, {}


@pytest.fixture
def walk() -> Iterator[str]:
    gymnasium.register("PoiseTests/Walk-v0", PlainWalk, max_episode_steps=20)
    yield "PoiseTests/Walk-v0"
    registry.TWINS.pop("PoiseTests/Walk-v0", None)
    del gymnasium.registry["PoiseTests/Walk-v0"]


def test_a_registered_environment_trains_compiled(walk: str, tmp_path: Path) -> None:
    poise.register(walk, Walk)
    settings = {**TINY, "max_steps": 4000, "rollout_length": 10, "learning_rate": 0.02}
    result = poise.train(walk, run_dir=tmp_path / "run", target_return=5.0, **settings)
    config = json.loads((result.folder / "config.json").read_text())
    assert config["resolved"]["world"] == "compiled"
    assert result.summary["launcher"] == "threads"
    assert result.solved
    poise.replay(result.folder)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (PlainWalk, "takes a gymnasium FuncEnv, not PlainWalk"),
        (lambda: 3, "not int"),
        (type("Bare", (FuncEnv,), {}), "must have an observation_space"),
        (
            type("Half", (FuncEnv,), {"observation_space": Walk.observation_space}),
            "must have an action_space",
        ),
    ],
)
def test_only_compiled_environments_are_registered(
    walk: str, environment: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        poise.register(walk, environment)
    assert walk not in registry.compiled_names()


def test_a_name_that_gymnasium_does_not_know_is_refused() -> None:
    with pytest.raises(EnvironmentNotFoundError, match="register that first"):
        poise.register("PoiseTests/Unknown-v0", Walk)
    assert "PoiseTests/Unknown-v0" not in registry.compiled_names()


def test_workers_use_the_world_that_was_chosen() -> None:
    """A worker process may not know what the user's script has registered."""
    components = build_components(TrainConfig("CartPole-v1"))
    assert components.config.world == "auto"
    assert SpawnedWorkerFactory.of(components).config.world == "compiled"
