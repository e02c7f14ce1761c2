"""The compiled rollout is compared with a slow one in plain Python."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.envs.jax_envs import JaxEnvs
from poise.envs.reward_shaping import RewardShaping
from poise.envs.seeding import Purpose, key_data, seed_sequence
from poise.learning.compiler import compile_options
from poise.learning.rollout import (
    FinishedEpisodes,
    RolloutState,
    first_state,
    roll_out,
    to_trajectory,
)
from poise.trajectory import Snapshot, Trajectory

from ..envs.toys import LENGTHS, Countdown, Drift, PlainCountdown, toy_agent

LENGTH, COPIES, ROLLOUTS = 9, 4, 6
NO_SHAPING = RewardShaping()
FAST = compile_options("cpu") | {"xla_backend_optimization_level": 0}
"""Compile options: these programs run for a few milliseconds."""


class Run(NamedTuple):
    """Several rollouts of one worker; the lists have one entry per rollout."""

    states: list[RolloutState]
    trajectories: list[Trajectory]
    episodes: list[FinishedEpisodes]

    def joined(self, name: str) -> Any:
        """Join a field of the trajectories over time ``[rollouts * T, N, ...]``."""
        parts = [getattr(trajectory, name) for trajectory in self.trajectories]
        return jax.tree.map(
            lambda *leaves: np.concatenate([one[:LENGTH] for one in leaves]), *parts
        )


def key(*numbers: int) -> np.ndarray:
    return key_data(seed_sequence(7, Purpose.ROLLOUT, *numbers))


def runner(envs: JaxEnvs) -> Callable[..., Run]:
    agent = toy_agent(envs)
    snapshot = Snapshot(np.int32(3), np.zeros(0, np.float32))

    def rollout(state: RolloutState) -> Any:
        transitions, after = roll_out(agent, envs, snapshot, state, LENGTH)
        trajectory = to_trajectory(agent, envs.shaping, snapshot, state, transitions, after)
        return trajectory, transitions.episodes, after

    def start(key: np.ndarray) -> RolloutState:
        return first_state(key, COPIES, *envs.blank(COPIES), agent.initial_state(COPIES))

    compiled = jax.jit(rollout).lower(start(key(0, 0))).compile(compiler_options=FAST)

    def run(key: np.ndarray, rollouts: int = ROLLOUTS, state: RolloutState | None = None) -> Run:
        state = state or start(key)
        done = Run([state], [], [])
        for _ in range(rollouts):
            trajectory, episodes, state = jax.tree.map(np.asarray, compiled(state))
            done.states.append(state)
            done.trajectories.append(trajectory)
            done.episodes.append(episodes)
        return done

    return run


@functools.cache
def countdown(limit: int | None, shaping: RewardShaping = NO_SHAPING) -> Run:
    return runner(JaxEnvs("Countdown", Countdown(), limit, shaping))(key(0, 0))


# 3 and 1 are also lengths of episodes, so that both flags occur together.
@pytest.fixture(scope="module", params=[None, 4, 3, 1], ids=lambda limit: f"limit {limit}")
def limited(request: Any) -> tuple[int | None, Run]:
    return request.param, countdown(request.param)


def at(tree: Any, t: int, copy: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[t, copy].tolist(), tree)


def test_the_rollout_equals_the_plain_loop(limited: tuple[int | None, Run]) -> None:
    """Compared step by step, from the first reset; only reset observations are copied."""
    limit, run = limited
    observations, actions = run.joined("observations"), run.joined("actions")
    names = ("rewards", "terminated", "truncated", "valid", "first")
    rows = {name: run.joined(name) for name in names}
    finished = [
        np.concatenate([getattr(episodes, name) for episodes in run.episodes])
        for name in FinishedEpisodes._fields
    ]
    seen = {"terminated": 0, "truncated": 0, "both": 0, "reset": 0}
    for copy in range(COPIES):
        plain = PlainCountdown(limit)
        begins, ended = True, True
        total, steps = 0.0, 0
        for t in range(ROLLOUTS * LENGTH):
            observation = at(observations, t, copy)
            if ended and begins:
                # A new episode: take over the length that the environment drew.
                length = observation["clock"][1]
                assert length in LENGTHS
                expected = plain.reset(length)
                ended, total, steps = False, 0.0, 0
            else:
                expected = plain.observation()
            assert observation == expected, (t, copy)
            assert bool(rows["first"][t, copy]) is begins
            assert bool(rows["valid"][t, copy]) is not ended
            if ended:
                seen["reset"] += 1
                assert rows["rewards"][t, copy] == 0.0
                assert not rows["terminated"][t, copy]
                assert not rows["truncated"][t, copy]
                assert not finished[0][t, copy]
                begins = True
                continue
            _, reward, terminated, truncated = plain.step(int(3 * actions[t, copy]) + 5)
            assert rows["rewards"][t, copy] == reward
            assert bool(rows["terminated"][t, copy]) is terminated
            assert bool(rows["truncated"][t, copy]) is truncated
            total, steps = total + reward, steps + 1
            assert bool(finished[0][t, copy]) is (terminated or truncated)
            if terminated or truncated:
                seen[
                    "both"
                    if terminated and truncated
                    else "terminated"
                    if terminated
                    else "truncated"
                ] += 1
                assert finished[1][t, copy] == pytest.approx(total)
                assert finished[2][t, copy] == steps
            begins, ended = False, terminated or truncated
    assert seen["reset"] > 0
    possible = {
        "terminated": limit != 1,
        "truncated": limit is not None,
        "both": limit in LENGTHS,
    }
    for kind, is_possible in possible.items():
        assert (seen[kind] > 0) is is_possible, (kind, seen)


def test_rollouts_join_without_a_gap(limited: tuple[int | None, Run]) -> None:
    _, run = limited
    for before, after in zip(run.trajectories, run.trajectories[1:], strict=False):
        last = jax.tree.map(lambda leaf: leaf[-1], (before.observations, before.first))
        begin = jax.tree.map(lambda leaf: leaf[0], (after.observations, after.first))
        jax.tree.map(np.testing.assert_array_equal, last, begin)


def test_a_new_episode_begins_after_an_invalid_step_and_only_there(
    limited: tuple[int | None, Run],
) -> None:
    _, run = limited
    first, valid = run.joined("first"), run.joined("valid")
    assert np.all(first[0])
    np.testing.assert_array_equal(first[1:], ~valid[:-1])
    ends = run.joined("terminated") | run.joined("truncated")
    np.testing.assert_array_equal(valid[1:], ~ends[:-1])


def test_the_next_rollout_continues_from_the_state(limited: tuple[int | None, Run]) -> None:
    _, run = limited
    for index, (state, trajectory) in enumerate(
        zip(run.states[1:], run.trajectories, strict=True), start=1
    ):
        assert state.cycle == index
        np.testing.assert_array_equal(state.key, run.states[0].key)
        np.testing.assert_array_equal(
            state.ended, (trajectory.terminated | trajectory.truncated)[-1]
        )
        np.testing.assert_array_equal(state.first, trajectory.first[-1])
        last = jax.tree.map(lambda leaf: leaf[-1], trajectory.observations)
        jax.tree.map(np.testing.assert_array_equal, state.observation, last)


def test_the_recurrent_state_is_kept_and_left_to_the_agent_to_reset(
    limited: tuple[int | None, Run],
) -> None:
    _, run = limited
    count = np.zeros(COPIES, np.int32)
    for trajectory, state in zip(run.trajectories, run.states[1:], strict=True):
        np.testing.assert_array_equal(trajectory.initial_state, count)
        for t in range(LENGTH):
            count = np.where(trajectory.first[t], 0, count) + 1
        np.testing.assert_array_equal(state.recurrent, count)


def test_decisions_are_recorded_unchanged(limited: tuple[int | None, Run]) -> None:
    _, run = limited
    scores, actions = run.joined("behaviour_log_probabilities"), run.joined("actions")
    np.testing.assert_array_equal(actions, -scores)
    assert all(trajectory.version == 3 for trajectory in run.trajectories)


def test_shapes_and_dtypes(limited: tuple[int | None, Run]) -> None:
    _, run = limited
    trajectory, episodes = run.trajectories[0], run.episodes[0]
    assert trajectory.observations["clock"].shape == (LENGTH + 1, COPIES, 2)
    assert trajectory.observations["score"].shape == (LENGTH + 1, COPIES)
    assert trajectory.first.shape == (LENGTH + 1, COPIES)
    for name, dtype in (
        ("rewards", np.float32),
        ("terminated", np.bool_),
        ("truncated", np.bool_),
        ("valid", np.bool_),
        ("behaviour_log_probabilities", np.float32),
        ("actions", np.float32),
    ):
        column = getattr(trajectory, name)
        assert column.shape == (LENGTH, COPIES), name
        assert column.dtype == dtype, name
    assert episodes.returns.dtype == np.float32
    assert episodes.lengths.dtype == np.int32
    before, after = run.states[0], run.states[-1]
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


# --- Shaping --------------------------------------------------------------------------------------


def test_failure_reward_changes_terminated_steps_and_not_the_score() -> None:
    plain, shaped = countdown(3), countdown(3, RewardShaping(failure_reward=-77.0))
    terminated, truncated = plain.joined("terminated"), plain.joined("truncated")
    np.testing.assert_array_equal(shaped.joined("terminated"), terminated)
    expected = np.where(terminated, np.float32(-77), plain.joined("rewards"))
    np.testing.assert_array_equal(shaped.joined("rewards"), expected)
    for kind in (truncated & terminated, truncated & ~terminated, terminated & ~truncated):
        assert np.any(kind)
    for one, other in zip(plain.episodes, shaped.episodes, strict=True):
        np.testing.assert_array_equal(one.returns, other.returns)
    np.testing.assert_array_equal(plain.states[-1].episode_return, shaped.states[-1].episode_return)


def test_shaping_scales_then_clips() -> None:
    rewards = np.float32([-40.0, -3.0, 0.0, 7.0, 80.0])
    fell = np.array([False, True, False, False, True])
    for array in (np.asarray, jnp.asarray):
        shaped = RewardShaping(failure_reward=5.0, scale=0.1, clip=0.6)(array(rewards), fell)
        np.testing.assert_allclose(shaped, [-0.6, 0.5, 0.0, 0.6, 0.5], rtol=1e-6)
        assert shaped.dtype == np.float32
        np.testing.assert_array_equal(RewardShaping()(array(rewards), fell), rewards)


# --- Randomness -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drift() -> Callable[..., Run]:
    return runner(JaxEnvs("Drift", Drift(), 4))


def test_the_same_worker_has_the_same_randomness(drift: Callable[..., Run]) -> None:
    one, same = drift(key(1, 0)), drift(key(1, 0))
    jax.tree.map(np.testing.assert_array_equal, one, same)


@pytest.mark.parametrize("other", [(2, 0), (1, 1), (0, 1)])
def test_other_workers_and_generations_have_other_randomness(
    drift: Callable[..., Run], other: tuple[int, int]
) -> None:
    one, different = drift(key(1, 0)), drift(key(*other))
    for name in ("observations", "behaviour_log_probabilities"):
        mine, theirs = one.joined(name), different.joined(name)
        assert not np.intersect1d(mine, theirs).size, name


def test_copies_steps_and_rollouts_have_their_own_randomness(drift: Callable[..., Run]) -> None:
    run = drift(key(1, 0))
    noise = run.joined("behaviour_log_probabilities")
    assert np.unique(noise).size == noise.size
    draws = run.joined("observations")[..., 1]
    assert np.unique(draws).size == draws.size, "resets and steps share no draws either"
    first = run.joined("first")
    assert first.sum() > 3 * COPIES
    for drawn in (draws[first], draws[~first]):
        assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
        assert 0.7 < drawn.std() < 1.3


def test_a_rollout_is_a_function_of_its_state(drift: Callable[..., Run]) -> None:
    run = drift(key(1, 0), 4)
    again = drift(key(1, 0), 2, run.states[2])
    assert again.states[0].cycle == 2
    for name in ("trajectories", "episodes"):
        mine, theirs = getattr(again, name), getattr(run, name)[2:]
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_spaces_are_the_environments() -> None:
    envs = JaxEnvs("Countdown", Countdown(), None)
    assert envs.observation_space == Countdown.observation_space
    assert envs.action_space == Countdown.action_space
