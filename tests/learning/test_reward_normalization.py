"""Reward normalisation equals VecNormalize, on NumPy and in XLA, except for when it updates."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from poise.envs.jax_envs import JaxEnvs
from poise.envs.reward_shaping import RewardShaping
from poise.learning.reward_normalization import first_returns, follow_returns, with_returns
from poise.learning.rollout import RolloutState, Transition, first_state, roll_out, to_trajectory
from poise.maths.statistics import Moments, merge_moments, moments_of, normalization
from poise.trajectory import Snapshot

from ..envs.toys import Countdown, toy_agent
from ..maths import literal

STEPS, COPIES, DISCOUNT = 7, 3, 0.9
SHAPING = RewardShaping(failure_reward=-2.0, scale=0.5, return_discount=DISCOUNT)


def episodes(seed: int, steps: int) -> dict[str, np.ndarray]:
    """Rewards and flags of a stream with ends of both kinds, each followed by a reset."""
    generator = np.random.default_rng(seed)
    rows = {name: np.zeros((steps, COPIES), np.bool_) for name in ("first", "valid")}
    ends = generator.random((2, steps, COPIES)) < 0.2
    ended, begins = np.zeros(COPIES, np.bool_), np.ones(COPIES, np.bool_)
    for t in range(steps):
        rows["first"][t], rows["valid"][t] = begins, ~ended
        ends[:, t] &= ~ended
        begins, ended = ended, ends[:, t].any(0)
    rewards = generator.normal(1.0, 3.0, (steps, COPIES)) * rows["valid"]
    return {**rows, "reward": rewards, "terminated": ends[0], "truncated": ends[1]}


def rollout(rows: dict[str, np.ndarray], begin: int, xp: Any) -> Transition:
    part = {name: xp.asarray(one[begin : begin + STEPS]) for name, one in rows.items()}
    part["reward"] = part["reward"].astype(np.float32)
    nothing = dict.fromkeys(("observation", "action", "dist_params", "episode_return", "elapsed"))
    return Transition(**{**nothing, **part})


def begin() -> RolloutState:
    state = first_state(np.zeros(2), COPIES, (), (), ())
    return state._replace(discounted_return=first_returns(SHAPING, COPIES))


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_returns_follow_each_episode_across_rollouts(xp: Any) -> None:
    rows, state, found = episodes(0, 6 * STEPS), begin(), []
    for at in range(0, 6 * STEPS, STEPS):
        transitions, state = follow_returns(SHAPING, state, rollout(rows, at, xp), state)
        found.append(np.asarray(transitions.discounted_return))
        assert found[-1].dtype == np.asarray(state.discounted_return).dtype == np.float32
    returns = np.concatenate(found)
    shaped = np.where(rows["terminated"], -2.0, rows["reward"]) * 0.5
    for copy in range(COPIES):
        valid = rows["valid"][:, copy]
        parts = literal.segments(
            rows["terminated"][:, copy], rows["truncated"][:, copy], rows["valid"][:, copy]
        )
        assert len(parts) > 3
        expected = literal.returns_so_far(shaped[:, copy], parts, DISCOUNT)
        np.testing.assert_allclose(returns[valid, copy], expected[valid], rtol=1e-5, atol=1e-5)


def test_the_scale_is_that_of_vec_normalize() -> None:
    """``reward / sqrt(variance of all returns so far + 1e-8)``, clipped to 10."""
    rows, state = episodes(1, 6 * STEPS), begin()
    moments, seen = Moments(np.zeros(()), np.zeros(1), np.zeros(1)), []
    for at in range(0, 6 * STEPS, STEPS):
        transitions, state = follow_returns(SHAPING, state, rollout(rows, at, np), state)
        numbers = with_returns(None, transitions.discounted_return)
        assert numbers.shape == (STEPS, COPIES, 1)
        added = moments_of(numbers.reshape(-1, 1), transitions.valid.reshape(-1)).absolute()
        moments = merge_moments(moments, added)
        seen += transitions.discounted_return[transitions.valid].tolist()
        scale = normalization(moments)[1]
        np.testing.assert_allclose(scale, [1 / np.sqrt(np.var(seen) + 1e-8)], rtol=1e-5)
    rewards = np.float32([-1000.0, -1.0, 0.0, 2.0, 1000.0])
    expected = np.clip(rewards / np.sqrt(np.var(seen) + 1e-8), -10, 10)
    np.testing.assert_allclose(SHAPING.normalized(rewards, scale), expected, rtol=1e-5)


def test_the_last_statistic_belongs_to_the_rewards() -> None:
    rewards, scale = np.float32([1.0, -2.0]), np.float32([7.0, 7.0, 0.5])
    np.testing.assert_array_equal(SHAPING.normalized(rewards, scale), [0.5, -1.0])
    observed, returns = np.ones((STEPS, COPIES, 2)), np.full((STEPS, COPIES), 3, np.float32)
    both = with_returns(observed, returns)
    assert both.dtype == np.float64
    np.testing.assert_array_equal(both[0, 0], [1.0, 1.0, 3.0])
    assert with_returns(observed, ()) is observed


def test_without_normalisation_nothing_is_followed() -> None:
    plain = RewardShaping()
    state = first_state(np.zeros(2), COPIES, (), (), ())
    assert first_returns(plain, COPIES) == state.discounted_return == ()
    transitions = rollout(episodes(0, STEPS), 0, np)
    assert follow_returns(plain, state, transitions, state) == (transitions, state)


def test_the_loss_sees_normalised_rewards_and_the_scores_do_not() -> None:
    found = {}
    for name, shaping in (
        ("plain", RewardShaping()),
        ("normalised", RewardShaping(return_discount=DISCOUNT)),
    ):
        envs = JaxEnvs("Countdown", Countdown(), None, shaping)
        agent = toy_agent(envs)
        statistics = (np.zeros(1), np.float32([1 / 64])) if name == "normalised" else ()
        snapshot = Snapshot(np.int32(0), np.zeros(0, np.float32), statistics)
        state = first_state(np.zeros(2), COPIES, *envs.blank(COPIES), agent.initial_state(COPIES))
        transitions, after = jax.jit(
            lambda state, agent=agent, envs=envs, snapshot=snapshot: roll_out(
                agent, envs, snapshot, state, STEPS
            )
        )(state)
        trajectory = to_trajectory(agent, shaping, snapshot, state, transitions, after)
        found[name] = trajectory.rewards, transitions.episode_return
    np.testing.assert_allclose(found["normalised"][0], found["plain"][0] / 64)
    np.testing.assert_array_equal(found["normalised"][1], found["plain"][1])
    assert np.any(found["plain"][0] != 0)
