"""Play: every step of the greedy policy, and an environment that is always closed."""

from pathlib import Path
from typing import Any

import gymnasium
import pytest

import poise
from poise.agent.policy import Policy
from poise.runs.play import play


class Watched(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gymnasium's own CartPole, which tells what is done with it."""

    made: "list[Watched]" = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.mode, self.seeds, self.closed = render_mode, [], 0
        Watched.made.append(self)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seeds.append(seed)
        return super().reset(seed=seed, options=options)

    def close(self) -> None:
        self.closed += 1
        super().close()


@pytest.fixture(autouse=True)
def unwatched() -> None:
    Watched.made.clear()


@pytest.fixture(scope="session")
def policy(serial_run: Path) -> Policy:
    return poise.load(serial_run)


def test_every_step_is_told(policy: Policy):
    steps = list(play(policy, episodes=2, environment=Watched))
    [environment] = Watched.made
    assert environment.closed == 1
    assert environment.mode is None
    assert {step.episode for step in steps} == {0, 1}
    for episode in (0, 1):
        told = [step for step in steps if step.episode == episode]
        assert [step.step for step in told] == list(range(1, len(told) + 1))
        assert [step.running_return for step in told] == [step.step for step in told]
        assert all(step.reward == 1.0 and step.action in (0, 1) for step in told)
        assert [bool(step.ended) for step in told] == [False] * (len(told) - 1) + [True]
        assert told[-1].ended in ("terminated", "truncated")


def test_it_is_the_same_for_a_seed(policy: Policy):
    actions = [
        [step.action for step in play(policy, episodes=3, seed=seed, environment=Watched)]
        for seed in (0, 0, 1)
    ]
    seeds = [environment.seeds for environment in Watched.made]
    assert actions[0] == actions[1]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3
    assert not set(seeds[0]) & set(seeds[2])


def test_it_is_what_evaluation_scores(policy: Policy):
    """The greedy policy, alone in its environment."""
    steps = list(play(policy, episodes=1, environment=Watched))
    [seed] = Watched.made[0].seeds
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=seed)
    for step in steps:
        assert step.action == policy.act(observation)
        observation, *_ = environment.step(step.action)
    environment.close()


def test_episodes_are_cut_at_the_limit(policy: Policy):
    steps = list(play(policy, episodes=2, step_limit=4, environment=Watched))
    assert [step.ended for step in steps] == ["", "", "", "cut"] * 2


@pytest.mark.parametrize("way", ["close", "interrupt", "error"])
def test_the_environment_is_closed_however_it_ends(policy: Policy, way: str):
    steps = play(policy, episodes=5, environment=Watched)
    next(steps)
    if way == "close":
        steps.close()  # type: ignore[attr-defined]
    else:
        error = KeyboardInterrupt if way == "interrupt" else ValueError
        with pytest.raises(error):
            steps.throw(error)  # type: ignore[attr-defined]
    assert Watched.made[0].closed == 1


class Scaled(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Scales rewards by statistics of its own, and cannot be closed."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.return_rms = [1.0]

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) / 1000, *rest

    def close(self) -> None:
        raise OSError("the socket was gone")


def test_true_rewards_are_told_and_closing_that_raises_is_one_warning(policy: Policy):
    for _ in range(2):
        with pytest.warns(RuntimeWarning) as caught:
            steps = list(play(policy, environment=scaled))
        [warning] = caught
        assert "raised when it was closed: OSError: the socket was gone" in str(warning.message)
        assert {step.reward for step in steps} == {1.0}


def scaled(render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    return gymnasium.wrappers.TimeLimit(Scaled(), 20)


def test_a_window_only_when_asked_for(policy: Policy):
    next(play(policy, render_mode="rgb_array", environment=Watched))
    assert Watched.made[0].mode == "rgb_array"
