"""Violations of Gymnasium's API are found and reported before training."""

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from poise.config import EnvironmentChoice
from poise.envs.checked_env import forget_closing
from poise.envs.deadlines import run_with_deadline
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.preflight import check_environment
from poise.envs.statistics_wrappers import statistics_advice, with_true_rewards
from poise.envs.trial_play import STEPS
from poise.errors import EnvironmentCheckError, EnvironmentNotFoundError, MissingExtraError

from ..environments import (
    ACTION_SPACES,
    FREE,
    OBSERVATION_SPACES,
    RELEASE,
    Ends,
    Faulty,
    Toy,
    make_ends,
)
from ..hanging import leap_at

PATIENCE = 60.0


def check(timeout: float = PATIENCE, **arguments: Any) -> None:
    check_environment(EnvFactory("toys:Faulty", Faulty, tuple(arguments.items())), timeout)


@pytest.fixture(autouse=True)
def hung_threads_are_released() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    RELEASE.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    RELEASE.clear()


@pytest.mark.parametrize("factory", [Ends, make_ends, Faulty, Toy])
def test_valid_environments_pass(factory: Any) -> None:
    check_environment(EnvFactory("toy", factory), PATIENCE)


@pytest.mark.parametrize("name", sorted(OBSERVATION_SPACES))
def test_observations_of_every_space_pass(name: str) -> None:
    env_factory = EnvFactory("toy", lambda: Toy(OBSERVATION_SPACES[name]))
    check_environment(env_factory, PATIENCE)


@pytest.mark.parametrize("name", sorted(ACTION_SPACES))
def test_actions_of_every_space_pass(name: str) -> None:
    env_factory = EnvFactory("toy", lambda: Toy(FREE, ACTION_SPACES[name]))
    check_environment(env_factory, PATIENCE)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("reset raises", "reset raised RuntimeError: the pole is missing"),
        ("reset nan", "observation is not finite"),
        ("reset alone", r"reset must return \(observation, info dict\), but returned ndarray"),
    ],
)
@pytest.mark.parametrize("at", [1, 3])
def test_a_broken_reset_is_found(fault: str, message: str, at: int) -> None:
    with pytest.raises(EnvironmentCheckError, match=message) as caught:
        check(fault=fault, at=at)
    assert "toys:Faulty" in str(caught.value)
    assert "seed 0, no action yet" in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "step raised RuntimeError: the pole broke"),
        ("shape", r"shape \(3,\), but its space says \(2,\)"),
        ("dtype", "dtype <U1, but its space says float32"),
        ("nan", "observation is not finite"),
        ("nan reward", "step returned the reward nan"),
        ("text reward", "must return a number as reward, but returned 'much'"),
        ("four", "a tuple of 4.*the old API had no truncated"),
        ("info", "a tuple of 3"),
    ],
)
@pytest.mark.parametrize("at", [1, STEPS])
def test_a_broken_step_is_found_with_its_action(fault: str, message: str, at: int) -> None:
    with pytest.raises(EnvironmentCheckError, match=message) as caught:
        check(fault=fault, at=at)
    assert "toys:Faulty" in str(caught.value)
    assert "seed 0, last action" in str(caught.value)


class Flags(Faulty):
    """Returns a number as ``terminated``."""

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, 0, truncated, info


def test_flags_must_be_bools() -> None:
    with pytest.raises(
        EnvironmentCheckError, match="must return a bool as terminated, but returned 0"
    ):
        check_environment(EnvFactory("toy", Flags), PATIENCE)


class Vectors(Faulty):
    """Returns a vector as reward."""

    def step(self, action: Any) -> Any:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, np.ones(2), terminated, truncated, info


def test_rewards_must_be_numbers() -> None:
    with pytest.raises(EnvironmentCheckError, match="must return a number as reward"):
        check_environment(EnvFactory("toy", Vectors), PATIENCE)


@pytest.mark.parametrize("fault", ["reset hangs", "hangs"])
def test_an_environment_that_hangs_is_found(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leap_at(tmp_path / "mark", monkeypatch)
    with pytest.raises(
        EnvironmentCheckError, match=r"not answered for 60 s \(worker_timeout"
    ) as caught:
        check(fault=fault, at=1, mark=str(tmp_path / "mark"))
    action = "no action yet" if fault == "reset hangs" else "last action"
    assert f"seed 0, {action}" in str(caught.value)


class Shared(Ends):
    """Draws from a generator that all copies share and that every seeded reset seeds again."""

    generator = np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            Shared.generator = np.random.default_rng(seed)
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float(Shared.generator.random()), *rest


class SharedGlobally(Ends):
    """Draws from NumPy's global generator."""

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float(np.random.random()), *rest


class SharedState(Ends):
    """Counts the steps of all copies in one place."""

    total: ClassVar[list[int]] = [0]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.total[0] = 0
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        self.total[0] += 1
        observation, _, *rest = super().step(action)
        return observation, float(self.total[0]), *rest


class Reseeds(Ends):
    """Draws fresh entropy at every reset without a seed."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=secrets.randbits(32) if seed is None else seed)


class ShowsLittle(Reseeds):
    """Also draws fresh entropy, but its observations are always the same."""

    def _observe(self) -> np.ndarray:
        return np.zeros(3, np.float32)

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, 0.0, *rest


class SpareGenerator(Ends):
    """Has a generator that is never drawn from."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = np.random.default_rng()


class LongReseeds(Reseeds):
    """Also draws fresh entropy; its episodes are longer than the check."""

    def __init__(self) -> None:
        super().__init__((10_000,))


@pytest.mark.parametrize(
    ("factory", "repeatable", "shares_state"),
    [
        (Ends, True, False),
        (Shared, False, False),
        (SharedGlobally, False, False),
        (SharedState, False, True),
        (Reseeds, False, False),
        (LongReseeds, False, False),
        (ShowsLittle, False, False),
        (SpareGenerator, True, False),
    ],
)
def test_shared_generators_are_distinguished_from_shared_state(
    factory: Any, repeatable: bool, shares_state: bool
) -> None:
    """With either, a copy does not repeat its results while another copy is stepped."""
    traits = check_environment(EnvFactory("toy", factory), PATIENCE)
    assert traits[:2] == (repeatable, shares_state)
    assert traits.shared == ("SharedState.total" if shares_state else "")


@pytest.mark.parametrize(("factory", "remembers"), [(Ends, True), (Toy, False), (Reseeds, False)])
def test_dependence_on_earlier_episodes_is_found(factory: Any, remembers: bool) -> None:
    """`Ends` counts its episodes; environments with fresh entropy differ anyway."""
    traits = check_environment(EnvFactory("toy", factory), PATIENCE)
    assert traits.remembers is remembers


def test_what_the_caller_draws_does_not_depend_on_the_check() -> None:
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    check_environment(EnvFactory("toy", SharedGlobally), PATIENCE)
    assert np.random.random() == expected


ONE = Ends()


@pytest.mark.parametrize("needed", [1, 2])
@pytest.mark.parametrize(
    "factory", [lambda: ONE, lambda: gymnasium.wrappers.TimeLimit(ONE, 15)], ids=["it", "wrapped"]
)
def test_one_object_for_every_copy_is_refused(factory: Any, needed: int) -> None:
    with pytest.raises(EnvironmentCheckError, match="the same Ends object twice: each call must"):
        check_environment(EnvFactory("toy", factory), PATIENCE, needed=needed)


class CloseRaises(Ends):
    """Raises on closing."""

    def close(self) -> None:
        raise OSError("the socket was gone")


def test_an_environment_that_raises_when_it_is_closed_is_named_once() -> None:
    forget_closing()
    with pytest.warns(RuntimeWarning) as caught:
        check_environment(EnvFactory("toy", CloseRaises), PATIENCE)
    assert [str(one.message) for one in caught] == [
        "the environment CloseRaises raised when it was closed: OSError: the socket was gone"
    ]


def test_wrappers_with_statistics_are_named_with_what_to_use_instead() -> None:
    def make() -> Any:
        wrapped = gymnasium.wrappers.NormalizeObservation(Ends())
        return gymnasium.wrappers.NormalizeReward(wrapped)

    with pytest.warns(RuntimeWarning) as caught:
        check_environment(EnvFactory("toy", make), PATIENCE)
    messages = [str(one.message) for one in caught]
    assert len(messages) == 2
    assert "NormalizeReward" in messages[0]
    assert 'normalize_rewards="on"' in messages[0]
    assert "NormalizeObservation" in messages[1]
    assert 'normalize_observations="on"' in messages[1]


class ThirdParty(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A third-party wrapper that normalises observations and rewards."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.obs_rms, self.ret_rms = [0.0], [1.0]

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, reward / 1000, *rest


class Unwrapped(gymnasium.Env[Any, Any]):
    """The same, but not a Gymnasium wrapper."""

    def __init__(self, environment: Any) -> None:
        self.env, self.reward_rms = environment, [1.0]
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, reward / 1000, *rest


def test_third_party_normalisers_are_recognised_by_their_statistics() -> None:
    advice = statistics_advice(ThirdParty(Unwrapped(Ends())))
    assert [one.split(" keeps")[0] for one in advice] == ["ThirdParty", "ThirdParty", "Unwrapped"]
    assert "--normalize-observations on" in advice[0]
    assert all("--normalize-rewards on; scores are those" in one for one in advice[1:])


def test_an_environment_that_normalises_itself_is_named_too() -> None:
    class Itself(Ends):
        def __init__(self) -> None:
            super().__init__()
            self.return_rms = [1.0]

    [advice] = statistics_advice(Itself())
    assert advice.endswith("use --normalize-rewards on")
    assert type(with_true_rewards(Itself())) is Itself


@pytest.mark.parametrize("wrapper", [gymnasium.wrappers.NormalizeReward, ThirdParty, Unwrapped])
def test_scores_are_of_the_rewards_below_a_normaliser(wrapper: Any) -> None:
    plain, wrapped = Ends(), with_true_rewards(gymnasium.wrappers.TimeLimit(wrapper(Ends()), 9))
    for environment in (plain, wrapped):
        environment.reset(seed=3)
    assert [plain.step(0)[1] for _ in range(2)] == [wrapped.step(0)[1] for _ in range(2)]


def unprintable() -> Any:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Breaks(Ends):
        def step(self, action: Any) -> Any:
            raise Unprintable

    return Breaks()


def test_an_exception_without_a_message_is_reported_too() -> None:
    with pytest.raises(EnvironmentCheckError, match=r"raised Unprintable: \(its message is not"):
        check_environment(EnvFactory("toy", unprintable), PATIENCE)


class TestVector:
    """The vector implementation of an environment is checked if it is to be used."""

    @staticmethod
    def look(entry_point: Any) -> None:
        name = "LooksLikeAVector-v0"
        gymnasium.register(name, entry_point=Faulty, vector_entry_point=entry_point)
        try:
            check_environment(find_env_factory(EnvironmentChoice(name)), PATIENCE, "vector")
        finally:
            del gymnasium.registry[name]

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("raises", "step raised RuntimeError: the pole broke"),
            ("nan", "observation is not finite"),
            ("nan reward", "as rewards, not finite float32"),
            ("reset raises", "reset raised RuntimeError: the pole is missing"),
        ],
    )
    def test_errors_are_found(self, fault: str, message: str) -> None:
        def make(num_envs: int, **arguments: Any) -> Any:
            return SyncVectorEnv([lambda: Faulty(fault, at=1)] * num_envs)

        with pytest.raises(EnvironmentCheckError, match=message) as caught:
            self.look(make)
        action = "no action yet" if "reset" in fault else "last actions"
        assert f"2 copies in one vector environment, seed 0, {action}" in str(caught.value)
        assert 'world="copies"' in str(caught.value)

    def test_a_failure_to_make_it_is_reported(self) -> None:
        def make(num_envs: int, **arguments: Any) -> Any:
            raise RuntimeError("no vectors today")

        with pytest.raises(EnvironmentCheckError, match="RuntimeError: no vectors today"):
            self.look(make)

    def test_a_valid_implementation_passes(self) -> None:
        self.look(lambda num_envs, **arguments: SyncVectorEnv([Faulty] * num_envs))


def test_a_failure_to_make_it_is_reported() -> None:
    with pytest.raises(EnvironmentNotFoundError, match="cannot be made: RuntimeError: no licence"):
        check(fault="make")


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"needs mujoco: pip install 'poise\[mujoco\]'"):
        check(fault="import")


def test_the_environment_is_closed_whatever_happens() -> None:
    made: list[Ends] = []

    class Breaks(Ends):
        def step(self, action: Any) -> Any:
            raise RuntimeError("broken")

    def make() -> Ends:
        made.append(Breaks())
        return made[-1]

    with pytest.raises(EnvironmentCheckError):
        check_environment(EnvFactory("toy", make), PATIENCE)
    assert [one.closed for one in made] == [True]


def test_run_with_deadline_returns_the_result() -> None:
    assert run_with_deadline(lambda: 3, PATIENCE, "toy") == 3


def test_run_with_deadline_raises_the_exception() -> None:
    def leave() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_with_deadline(leave, PATIENCE, "toy")
