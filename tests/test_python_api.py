"""The public functions as users call them, in a separate process without type checks of tests."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import poise

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, pickle, sys, warnings
from pathlib import Path
import poise

SMALL = dict(seed=3, workers=1, launcher="serial", envs_per_worker=2, hidden_sizes=8,
             evaluation_interval=400, selection_episodes=2, verification_episodes=2)
said = {}

def refused(name, call):
    try:
        said[name] = repr(call())
    except poise.errors.InputError as error:
        said[name] = str(error)

if __name__ == "__main__":
    result = poise.train("CartPole-v1", run_dir="run", max_steps=4e2, tensorboard=True,
                         preset="none", **SMALL)
    said["result"] = repr(result)
    said["tensorboard"] = sorted(path.name[:6] for path in Path("run/tensorboard").iterdir())
    pendulum = poise.train("Pendulum-v1", env_kwargs={"g": 5.0}, max_steps=4e2, keep=False,
                           preset="none", **SMALL)
    said["kept"] = pendulum.policy.environment.env_kwargs
    said["copy"] = repr(pickle.loads(pickle.dumps(pendulum)))
    same = poise.train(poise.TrainConfig("CartPole-v1", max_steps=400, **SMALL), keep=False)
    other = poise.train(poise.TrainConfig(max_steps=400, **SMALL), seed=4, keep=False)
    hashes = [one.policy.parameters.tobytes() for one in (result, same, other)]
    said["configs"] = [hashes[0] == hashes[1], hashes[0] == hashes[2]]
    for run in ("run", Path("run"), "run/best.safetensors", poise.load("run")):
        steps = list(poise.play(run, seed=1))
        score = poise.evaluate(run, episodes=3)
        said.setdefault("steps", []).append(len(steps))
        said.setdefault("scores", []).append(score.mean)
    heavy = poise.random_baseline("Pendulum-v1", env_kwargs={"g": 0.0}, episodes=3)
    light = poise.random_baseline("Pendulum-v1", episodes=3)
    said["baselines"] = [heavy.mean, light.mean]
    refused("mistyped", lambda: poise.train("CartPole-v1", max_step=5))
    refused("evaluate", lambda: poise.evaluate(polcy="run"))
    refused("play", lambda: poise.play("run", rendermode="human"))
    refused("load", lambda: poise.load("run", wich="best"))
    refused("foreign", lambda: poise.train("CartPole-v1", lr=5))
    refused("callback", lambda: poise.train("CartPole-v1", callback=print))
    refused("callbacks", lambda: poise.train("CartPole-v1", callbacks=[5]))
    refused("no list", lambda: poise.train("CartPole-v1", callbacks=print))
    refused("subscriber", lambda: poise.train("CartPole-v1", subscriber=print))
    refused("value", lambda: poise.train("CartPole-v1", max_steps=1.5))
    refused("no folder", lambda: poise.play(pendulum.folder))
    refused("no text", lambda: poise.load(5))
    refused("replay", lambda: poise.replay(None))
    refused("resume", lambda: poise.resume(None))
    refused("missing", lambda: poise.play("nowhere"))
    refused("which", lambda: poise.evaluate("run", which="beste"))
    refused("episodes", lambda: poise.evaluate("run", episodes=0))
    refused("steps behind", lambda: poise.resume("run", max_steps=5))
    print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("python")
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"run", "script.py"}
    found: dict[str, Any] = json.loads(done.stdout)
    found["folder"] = str(folder)
    return found


def test_a_result_shows_its_score(said: dict[str, Any]) -> None:
    begin = "TrainResult(CartPole-v1, seed 3: not solved after 4"
    assert said["result"].startswith(begin)
    assert "(max_steps), " in said["result"]
    assert "over 2 fresh episodes; in " in said["result"]
    assert said["result"].endswith(str(Path(said["folder"]) / "run") + ")")
    assert len(said["result"]) < 300
    assert said["copy"].endswith("no files kept)")


def test_a_result_without_a_target_is_no_failure() -> None:
    policy = poise.Policy.__new__(poise.Policy)
    summary: dict[str, Any] = {
        "solved": False,
        "target_return": None,
        "steps": 1000,
        "stopped": "max_steps",
    }
    summary |= {"environment": "Pendulum-v1", "seed": 0, "evaluation": None}
    result = poise.TrainResult(None, summary, policy, poise.StopReason.MAX_STEPS)
    assert repr(result).startswith(
        "TrainResult(Pendulum-v1, seed 0: trained for 1,000 steps (max_steps);"
    )


def test_tensorboard_from_python(said: dict[str, Any]) -> None:
    assert said["tensorboard"] == ["events"]


def test_arguments_of_the_environment_as_a_dict(said: dict[str, Any]) -> None:
    assert said["kept"] == ["g=5.0"]
    heavy, light = said["baselines"]
    assert abs(heavy - light) > 1.0


def test_settings_as_an_object(said: dict[str, Any]) -> None:
    assert said["configs"] == [True, False]


def test_a_run_is_named_in_every_way(said: dict[str, Any]) -> None:
    assert len(said["steps"]) == 4
    assert len(set(said["steps"])) == len(set(said["scores"])) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mistyped", "there is no setting 'max_step': perhaps you meant max_steps"),
        ("foreign", "there is no setting 'lr': perhaps you meant learning_rate"),
        ("callback", "there is no setting 'callback': perhaps you meant callbacks"),
        ("callbacks", "a callback is 5, but must be a function of two arguments"),
        ("no list", "callbacks is <built-in function print>, but must be a list"),
        ("subscriber", "there is no setting 'subscriber': perhaps you meant callbacks"),
        ("value", "max_steps is 1.5, but must be a whole number"),
        ("no folder", "the run is None, but must be a folder's path"),
        ("no text", "the run is 5, but must be a folder's path"),
        ("replay", "the run is None, but must be a folder's path"),
        ("resume", "the run is None, but must be a folder's path"),
        ("missing", "there is no policy at nowhere"),
        ("evaluate", "there is no argument of evaluate 'polcy': perhaps you meant policy"),
        ("play", "there is no argument of play 'rendermode': perhaps you meant render_mode"),
        ("load", "there is no argument of load 'wich': perhaps you meant which"),
        ("which", "which is 'beste', but must be best or final"),
        ("episodes", "episodes is 0, but must be 1 or more"),
        ("steps behind", "max_steps is 5, but the run has already taken 4"),
    ],
)
def test_bad_input_is_a_sentence_with_python_names(
    said: dict[str, Any], name: str, sentence: str
) -> None:
    assert said[name].startswith(sentence)
    assert "--" not in said[name]


UNGUARDED = """
import gymnasium, poise
class Own(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample() * 0, {}
    def step(self, action):
        self.steps += 1
        return self.observation_space.sample() * 0, 1.0, self.steps == 9, False, {}
def work():
    return poise.train(
        Own, max_steps=50, workers=1, envs_per_worker=1, keep=False,
        selection_episodes=1, verification_episodes=1)
work()  # here
"""


def standard_error_of(path: Path, script: str) -> str:
    """The standard error of a script with these lines."""
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_warnings_name_the_line_of_the_script(tmp_path: Path) -> None:
    said = standard_error_of(tmp_path / "my script.py", UNGUARDED)
    line = UNGUARDED.splitlines().index("work()  # here") + 1
    [warning] = [one for one in said.splitlines() if "Warning: " in one]
    assert warning.startswith(f"{tmp_path / 'my script.py'}:{line}: RuntimeWarning: the workers")
    assert "work()  # here" in said


def test_other_warnings_name_the_caller(tmp_path: Path) -> None:
    script = (
        UNGUARDED.replace("super().reset(seed=seed)", "super().reset()")
        .replace("work()  # here", "if __name__ == '__main__':\n    work()")
        .replace("sample() * 0", "sample()")
    )
    said = standard_error_of(tmp_path / "script.py", script)
    lines = script.splitlines()
    call = next(number for number, one in enumerate(lines, 1) if "return poise.train(" in one)
    [warning] = [one for one in said.splitlines() if "cannot be replayed" in one]
    assert f"script.py:{call}: RuntimeWarning: this run cannot be replayed exactly" in warning
