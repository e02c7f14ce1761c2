"""Host environments are compared with a slow plain loop: autoreset, seeds, flags, errors."""

import re
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from poise.config import EnvironmentChoice
from poise.envs.checked_env import forget_closing
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.host_envs import HostEnvs, open_loop
from poise.envs.observations import observation_checker
from poise.envs.reward_shaping import RewardShaping
from poise.envs.vector_env import VectorCopies
from poise.errors import EnvironmentFailureError, UnsupportedSpaceError

from ..environments import FREE, OBSERVATION_SPACES, Ends, Faulty, Toy

STEPS = 60
COPIES = 3


def loop_of(factory: Any, count: int = COPIES) -> Any:
    return open_loop(EnvFactory("toy", factory), count)


class PlainCopy:
    """One copy with next-step autoreset, written literally after Gymnasium's documentation."""

    def __init__(self, environment: gymnasium.Env[Any, Any], seed: int) -> None:
        self.environment = environment
        self.observation, _ = environment.reset(seed=seed)
        self.must_reset = False

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        if self.must_reset:
            self.observation, _ = self.environment.reset()
            self.must_reset = False
            return self.observation, 0.0, False, False
        self.observation, reward, terminated, truncated, _ = self.environment.step(action)
        self.must_reset = terminated or truncated
        return self.observation, reward, terminated, truncated


def test_copies_reset_at_the_step_after_an_end() -> None:
    copies = loop_of(Ends)
    seeds = [5, 6, 7]
    plain = [PlainCopy(Ends(), seed) for seed in seeds]
    first = copies.reset(seeds)
    np.testing.assert_array_equal(first, [copy.observation for copy in plain])
    ways = set()
    for actions in np.random.default_rng(0).integers(0, 3, (STEPS, COPIES)):
        observations, rewards, terminated, truncated = copies.step(actions)
        expected = [copy.step(int(one)) for copy, one in zip(plain, actions, strict=True)]
        np.testing.assert_array_equal(observations, [one[0] for one in expected])
        np.testing.assert_array_equal(rewards, [one[1] for one in expected])
        assert terminated.tolist() == [one[2] for one in expected]
        assert truncated.tolist() == [one[3] for one in expected]
        ways.update(zip(terminated.tolist(), truncated.tolist(), strict=True))
    copies.close()
    assert ways == {(False, False), (True, False), (False, True), (True, True)}


def test_copies_agree_with_gymnasiums_own_vector_loop() -> None:
    vector = SyncVectorEnv([Toy] * COPIES, autoreset_mode=AutoresetMode.NEXT_STEP)
    copies = loop_of(Toy)
    seeds = [1, 20, 300]
    np.testing.assert_array_equal(copies.reset(seeds), vector.reset(seed=seeds)[0])
    for actions in np.random.default_rng(1).integers(5, 8, (STEPS, COPIES)):
        for ours, theirs in zip(copies.step(actions), vector.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    copies.close()
    vector.close()


def test_the_true_last_observation_is_seen() -> None:
    copies = loop_of(lambda: Ends((2, 1)), 1)
    copies.reset([3])
    steps = [copies.step(np.zeros(1, np.int64)) for _ in range(6)]
    # [base, episode, step]: the last observation of an episode, then the first of the next.
    assert [step[0][0, 1:].tolist() for step in steps] == [
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 1],
        [2, 0],
        [2, 1],
    ]
    assert [bool(step[2][0]) for step in steps] == [False, True, False, False, False, False]
    assert [bool(step[3][0]) for step in steps] == [False, True, False, True, False, False]


def cartpole(kind: Any) -> HostEnvs:
    return HostEnvs.open(find_env_factory(EnvironmentChoice("CartPole-v1")), kind, RewardShaping())


def test_gymnasiums_vector_implementation_keeps_next_step_autoreset() -> None:
    envs = cartpole("vector")
    copies = envs.copies(COPIES)
    plain = [envs.env_factory.make() for _ in range(COPIES)]
    observations = copies.reset([4, 5, 6])
    must_reset = [False] * COPIES
    ends = 0
    for plainly in plain:
        plainly.reset(seed=0)
    for actions in np.random.default_rng(2).integers(0, 2, (150, COPIES)):
        before = observations
        observations, rewards, terminated, truncated = copies.step(actions)
        for copy, environment in enumerate(plain):
            if must_reset[copy]:
                assert np.abs(observations[copy]).max() <= 0.05
                assert (rewards[copy], terminated[copy], truncated[copy]) == (0, False, False)
                must_reset[copy] = False
                continue
            unwrapped: Any = environment.unwrapped
            unwrapped.state = tuple(before[copy].astype(np.float64))
            unwrapped.steps_beyond_terminated = None
            expected, reward, is_terminated, _, _ = unwrapped.step(int(actions[copy]))
            np.testing.assert_allclose(observations[copy], expected, atol=1e-5)
            assert rewards[copy] == reward
            assert terminated[copy] == is_terminated
            must_reset[copy] = bool(terminated[copy] or truncated[copy])
            ends += must_reset[copy]
    assert ends > 3
    copies.close()
    for environment in plain:
        environment.close()


def test_a_vector_implementations_truncation_is_no_termination() -> None:
    envs = cartpole("vector")
    copies = envs.copies(1)
    copies.reset([0])
    inner: Any = copies
    inner.vector.unwrapped.steps[:] = 499
    _, _, terminated, truncated = copies.step(np.zeros(1, np.int64))
    assert (terminated.tolist(), truncated.tolist()) == ([False], [True])
    copies.close()


@pytest.mark.parametrize("kind", ["vector", "copies"])
def test_the_same_seeds_give_the_same_results(kind: Any) -> None:
    def play(seeds: list[int]) -> list[Any]:
        copies = cartpole(kind).copies(2)
        seen = [copies.reset(seeds)]
        for actions in np.random.default_rng(3).integers(0, 2, (40, 2)):
            seen.extend(copies.step(actions))
        copies.close()
        return seen

    for one, other in zip(play([7, 8]), play([7, 8]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(play([7, 8])[0], play([9, 8])[0])


def test_every_copy_has_its_own_seed() -> None:
    copies = loop_of(Toy)
    observations = copies.reset([1, 2, 1])
    np.testing.assert_array_equal(observations[0], observations[2])
    assert not np.array_equal(observations[0], observations[1])


def test_observations_are_not_overwritten_by_later_steps() -> None:
    class Reuses(Ends):
        """Returns the same array every time, as fast environments do."""

        buffer = np.zeros(3, np.float32)

        def _observe(self) -> np.ndarray:
            self.buffer[:] = super()._observe()
            return self.buffer

    copies = loop_of(Reuses, 1)
    first = copies.reset([0])
    kept = first.copy()
    copies.step(np.zeros(1, np.int64))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_vector_environments_with_other_autoreset_modes_are_refused(mode: AutoresetMode) -> None:
    vector = SyncVectorEnv([Ends] * 2, autoreset_mode=mode)
    with pytest.raises(UnsupportedSpaceError, match="next-step"):
        VectorCopies(vector, Ends.observation_space)
    assert vector.closed


def test_vector_environments_that_do_not_say_how_they_reset_are_refused() -> None:
    vector = SyncVectorEnv([Ends] * 2)
    vector.metadata = {}
    with pytest.raises(UnsupportedSpaceError, match="mode None"):
        VectorCopies(vector, Ends.observation_space)


def test_vector_environments_with_another_observation_space_are_refused() -> None:
    vector = SyncVectorEnv([Ends] * 2)
    with pytest.raises(UnsupportedSpaceError, match="but the environment itself"):
        VectorCopies(vector, FREE.__class__(-1.0, 1.0, (3,)))
    assert vector.closed


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "step raised RuntimeError: the pole broke"),
        ("shape", r"shape \(3,\), but its space says \(2,\)"),
        ("dtype", "dtype <U1"),
        ("nan", "not finite"),
        ("nan reward", "reward nan"),
        ("text reward", "step must return a number as reward, but returned 'much'"),
        ("four", r"step must return \(observation, reward, terminated, truncated, info\)"),
        ("info", r"step must return \(observation, reward, terminated, truncated, info\)"),
    ],
)
def test_a_failing_step_names_copy_seed_and_action(fault: str, message: str) -> None:
    copies = loop_of(lambda: Faulty(fault, at=3))
    copies.reset([11, 12, 13])
    copies.step(np.zeros(COPIES, np.int64))
    copies.step(np.zeros(COPIES, np.int64))
    with pytest.raises(EnvironmentFailureError, match=message) as caught:
        copies.step(np.ones(COPIES, np.int64))
    assert "copy 0, seed 11, last action 1" in str(caught.value)
    copies.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [("reset raises", "reset raised RuntimeError: the pole is missing"), ("reset nan", "finite")],
)
@pytest.mark.parametrize("at", [1, 2])
def test_a_failing_reset_names_copy_and_seed(fault: str, message: str, at: int) -> None:
    copies = loop_of(lambda: Faulty(fault, at=at, episode=1))

    def play() -> None:
        copies.reset([11, 12, 13])
        for _ in range(2):
            copies.step(np.zeros(COPIES, np.int64))

    with pytest.raises(EnvironmentFailureError, match=message) as caught:
        play()
    assert "copy 0, seed 11, no action yet" in str(caught.value)
    copies.close()


def test_copies_are_closed_even_if_one_cannot_be() -> None:
    class Sticks(Ends):
        def close(self) -> None:
            super().close()
            raise RuntimeError("stuck")

    made: list[Ends] = []

    def make() -> Ends:
        made.append(Sticks())
        return made[-1]

    forget_closing()
    with pytest.warns(RuntimeWarning, match="raised when it was closed: RuntimeError: stuck"):
        loop_of(make).close()
    assert [one.closed for one in made] == [True] * COPIES


@pytest.mark.parametrize("name", sorted(OBSERVATION_SPACES))
def test_samples_of_every_space_are_valid(name: str) -> None:
    space = OBSERVATION_SPACES[name]
    assert observation_checker(space)(space.sample()) is None


WRONG: dict[str, tuple[spaces.Space[Any], Any, str]] = {
    "no dict": (spaces.Dict({"a": FREE}), np.zeros(3), "not a dict with keys"),
    "another key": (spaces.Dict({"a": FREE}), {"b": np.zeros(3)}, "not a dict with keys"),
    "inside a dict": (spaces.Dict({"a": FREE}), {"a": np.zeros(2)}, r"shape \(2,\)"),
    "no tuple": (spaces.Tuple((FREE,)), [np.zeros(3)], "not a tuple of 1"),
    "short tuple": (spaces.Tuple((FREE, FREE)), (np.zeros(3),), "not a tuple of 2"),
    "inside a tuple": (spaces.Tuple((FREE,)), (np.full(3, np.inf),), "not finite"),
    "float for bytes": (OBSERVATION_SPACES["bytes"], np.zeros(5), "dtype float64"),
    "float for a category": (spaces.Discrete(3), 1.0, "dtype float64"),
    "wrong shape": (FREE, np.zeros((3, 1)), r"shape \(3, 1\)"),
    "none": (FREE, None, "shape"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_errors_in_observations_are_described(name: str) -> None:
    space, observation, message = WRONG[name]
    problem = observation_checker(space)(observation)
    assert problem is not None
    assert re.search(message, problem), problem


@pytest.fixture
def broken_vector() -> Iterator[VectorCopies]:
    copies = VectorCopies(SyncVectorEnv([lambda: Faulty("nan", at=2)] * 2), FAULTY)
    copies.reset([0, 1])
    yield copies
    copies.close()


FAULTY = Faulty.observation_space


def test_a_vector_implementations_observations_must_be_finite(broken_vector: VectorCopies) -> None:
    actions = np.zeros(2, np.int64)
    broken_vector.step(actions)
    with pytest.raises(EnvironmentFailureError, match="not finite"):
        broken_vector.step(actions)


def test_a_vector_implementations_rewards_must_be_finite() -> None:
    copies = VectorCopies(SyncVectorEnv([lambda: Faulty("nan reward", at=1)] * 2), FAULTY)
    copies.reset([0, 1])
    with pytest.raises(EnvironmentFailureError, match="rewards"):
        copies.step(np.zeros(2, np.int64))
    copies.close()


@pytest.mark.parametrize(
    ("shaping", "expected"),
    [
        (RewardShaping(), [3.0, -4.0, 0.25]),
        (RewardShaping(failure_reward=-1.0), [-1.0, -4.0, 0.25]),
        (RewardShaping(scale=0.5), [1.5, -2.0, 0.125]),
        (RewardShaping(clip=1.0), [1.0, -1.0, 0.25]),
        (RewardShaping(failure_reward=-8.0, scale=0.25, clip=0.5), [-0.5, -0.5, 0.0625]),
    ],
)
def test_rewards_are_shaped_for_the_loss(shaping: RewardShaping, expected: list[float]) -> None:
    rewards, terminated = np.array([3.0, -4.0, 0.25], np.float32), np.array([True, False, False])
    shaped = shaping(rewards, terminated)
    assert shaped.dtype == np.float32
    assert shaped.tolist() == expected
