"""Play: yields every step of the greedy policy, and always closes the environment."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest

import poise
from poise.agent.policy import Policy
from poise.errors import ConfigError, EnvironmentFailureError, MissingExtraError
from poise.evaluation.play import play


class Watched(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gymnasium's own CartPole, which records its use."""

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


def test_every_step_is_yielded(policy: Policy):
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


def test_actions_are_those_of_the_greedy_policy(policy: Policy):
    """The actions are those of the greedy policy, alone in its environment."""
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


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return monkeypatch


def test_a_window_without_a_display_is_refused_before_anything_is_made(
    policy: Policy, no_display: pytest.MonkeyPatch
):
    with pytest.raises(ConfigError, match="there is no display to open a window on"):
        next(play(policy, render_mode="human", environment=Watched))
    assert Watched.made == []
    # If a driver without a display is set, the user wants it.
    no_display.setenv("SDL_VIDEODRIVER", "dummy")
    assert next(play(policy, render_mode="human", environment=Watched)).step == 1


def test_a_display_that_does_not_answer_is_named(policy: Policy, no_display: pytest.MonkeyPatch):
    """SDL then draws off the screen, without an error."""
    no_display.setenv("DISPLAY", ":77")
    display = SimpleNamespace(get_init=lambda: True, get_driver=lambda: "offscreen")
    no_display.setitem(sys.modules, "pygame", SimpleNamespace(display=display))
    with pytest.raises(ConfigError, match="the display :77 does not answer"):
        next(play(policy, render_mode="human", environment=Watched))
    assert Watched.made[0].closed == 1
    display.get_driver = lambda: "x11"
    assert next(play(policy, render_mode="human", environment=Watched)).step == 1


class Fails(Watched):
    """Raises when it is reset."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        raise Fails.error

    error: Exception


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("x11 not available"), ConfigError, "no window could be opened.*x11 not"),
        (
            gymnasium.error.DependencyNotInstalled("pygame is not installed"),
            MissingExtraError,
            r"needs pygame: pip install 'poise\[render\]'",
        ),
    ],
)
def test_a_window_that_cannot_be_opened(
    policy: Policy,
    no_display: pytest.MonkeyPatch,
    error: Exception,
    kind: type[Exception],
    words: str,
):
    no_display.setenv("DISPLAY", ":0")
    Fails.error = error
    with pytest.raises(kind, match=words):
        next(play(policy, render_mode="human", environment=Fails))
    with pytest.raises(EnvironmentFailureError, match="reset raised"):
        next(play(policy, environment=Fails))
    assert [one.closed for one in Watched.made] == [1, 1]


class Scaled(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Scales rewards by its own statistics, and raises when it is closed."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.return_rms = [1.0]

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) / 1000, *rest

    def close(self) -> None:
        raise OSError("the socket was gone")


def test_true_rewards_are_yielded_and_an_error_on_closing_is_one_warning(policy: Policy):
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
