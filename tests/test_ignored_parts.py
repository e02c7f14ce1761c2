"""Leaving out parts of observations, by key or by path, from environment to policy file."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import poise
from poise.agent.policy_file import policy_from_bytes, policy_to_bytes
from poise.cli import main
from poise.envs.env_factory import EnvFactory
from poise.errors import ConfigError, UnsupportedSpaceError
from poise.evaluation.play import play
from poise.ignored_parts import has_form, leave_out, reduced_space

NUMBER = spaces.Box(-1.0, 1.0, (2,))
WHOLE = spaces.Dict(
    {
        "v": NUMBER,
        "mission": spaces.Text(20),
        "robot": spaces.Tuple([spaces.Dict({"name": spaces.Text(5), "arm": NUMBER}), NUMBER]),
        3: spaces.Discrete(2),
    }
)
SMALL: dict[str, Any] = {
    "max_steps": 600,
    "workers": 1,
    "launcher": "serial",
    "evaluation_interval": 10_000,
    "selection_episodes": 1,
    "verification_episodes": 1,
}


class Told(gymnasium.Env[Any, Any]):
    """Numbers and a text: the sign of the first number determines the right action."""

    observation_space = spaces.Dict({"v": NUMBER, "mission": spaces.Text(20)})
    action_space = spaces.Discrete(2)

    def _look(self) -> dict[str, Any]:
        self.right = int(self.np_random.integers(2))
        return {"mission": "go", "v": np.array([2 * self.right - 1, 0], np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def step(self, action: Any) -> Any:
        reward, self.steps = float(action == self.right), self.steps + 1
        return self._look(), reward, False, self.steps >= 5, {}


class Pair(Told):
    """The same observations as a Tuple, with the text first."""

    observation_space = spaces.Tuple([spaces.Text(20), NUMBER])  # type: ignore[assignment]

    def _look(self) -> Any:
        return tuple(super()._look().values())


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["mission"], ["v", "robot", 3]),
        (["['mission']", "3"], ["v", "robot"]),
        (["observation['mission']", "robot", "[3]"], ["v"]),
    ],
)
def test_parts_are_named_by_key_or_path(names: list[str], left: list[Any]) -> None:
    reduced = reduced_space(WHOLE, names, "toy")
    assert isinstance(reduced, spaces.Dict)
    assert set(reduced.spaces) == set(left)
    whole = WHOLE.sample()
    assert not has_form(reduced, whole)
    part = leave_out(whole, names)
    assert has_form(reduced, part)
    assert reduced.contains(part)
    assert leave_out(part, names) == part


def test_a_nested_part_is_named_by_its_path() -> None:
    names = ["['robot'][0]['name']", "['robot'][1]"]
    reduced = reduced_space(WHOLE, names, "toy")
    assert reduced["robot"] == spaces.Tuple([spaces.Dict({"arm": NUMBER})])  # type: ignore[index]
    assert reduced.contains(leave_out(WHOLE.sample(), names))


@pytest.mark.parametrize(
    ("space", "names", "message"),
    [
        (NUMBER, ["v"], "have no parts"),
        (WHOLE, ["missions"], "names 'missions', but observations of toy have the parts 'v'"),
        (WHOLE, ["['robot'][7]"], "have the parts"),
        (WHOLE, ["['robot"], "have the parts"),
        (WHOLE, ["__import__('os')"], "have the parts"),
        (WHOLE, ["v", "mission", "robot", "3"], "leaves nothing"),
        (WHOLE, ["v", "mission", "['robot'][0]", "['robot'][1]", "3"], "leaves nothing"),
    ],
)
def test_a_missing_part_is_refused(space: Any, names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reduced_space(space, names, "toy")


def test_a_text_is_refused_by_its_path_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"observation\['mission'\].*ignore_obs"):
        poise.train(Told, run_dir=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_the_environment_is_closed_if_there_is_no_such_part() -> None:
    closed = []

    class Closes(Told):
        def close(self) -> None:
            closed.append(self)

    with pytest.raises(ConfigError, match="names 'task'"):
        EnvFactory("toy", Closes, ignore_observations=("task",)).make()
    assert len(closed) == 1


@pytest.mark.usefixtures("shared_programs", "no_curves")
@pytest.mark.parametrize(("environment", "name"), [(Told, "mission"), (Pair, "0")])
def test_an_ignored_part_is_ignored_everywhere(
    environment: type[Told], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    result = poise.train(environment, run_dir=folder, ignore_observations=(name,), **SMALL)
    policy = policy_from_bytes(policy_to_bytes(poise.load(folder)), "copy")
    assert policy.environment.ignore_observations == (name,)
    # An observation of the environment itself, and one without the ignored part.
    whole, _ = environment().reset(seed=1)
    assert policy.act(whole) == policy.act(leave_out(whole, [name]))
    assert policy.value(whole) == policy.value(leave_out(whole, [name]))
    assert poise.evaluate(folder, episodes=2, environment=environment).episodes == 2
    assert len(list(play(policy, environment=environment))) == 5
    assert poise.replay(folder, environment=environment).updates == result.summary["updates"]
    more = poise.resume(folder, max_steps=900, environment=environment)
    assert more.summary["steps"] >= 900
    path = f"tests.test_ignored_parts:{environment.__name__}"
    assert main(["random", path, "--ignore-observations", name, "--episodes", "2"]) == 0
    assert "2 episodes" in capsys.readouterr().out


def test_random_play_needs_no_part_left_out() -> None:
    class Graphs(Told):
        observation_space = spaces.Dict(
            {"v": NUMBER, "g": spaces.Graph(NUMBER, None), "s": spaces.Sequence(spaces.Discrete(2))}
        )

        def _look(self) -> dict[str, Any]:
            return {**self.observation_space.sample(), "v": super()._look()["v"]}

    assert poise.random_baseline(Graphs, episodes=2).episodes == 2
