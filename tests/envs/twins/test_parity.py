"""Every twin is compared, step by step, with Gymnasium's own environment."""

import math
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.envs.twins import CartPole, MountainCar, MountainCarContinuous

CARTPOLE_ANGLE = 12 * 2 * math.pi / 360


def test_next_states_agree(steps: Any, every: int) -> None:
    count = 100_000 if steps.case.name == "CartPole-v1" else 30_000
    assert len(steps.states) >= count // every
    agrees = steps.difference <= steps.tolerance
    wall = steps.case.left_wall
    if wall is not None:
        # Rounding decides whether a car that just reaches the wall is stopped by it.
        own_stopped = steps.own.following[:, 0] == steps.case.carried(wall)
        twin_stopped = steps.twin.following[:, 0] == np.float32(wall)
        excused = agrees[:, 0] & (own_stopped != twin_stopped)
        assert np.sum(own_stopped & twin_stopped) > 1_000 // every
        assert np.sum(excused) < 50 // every
        agrees[:, 1] |= excused
    assert np.all(agrees), steps.report(~agrees.all(1))


def test_angles_are_wrapped(steps: Any) -> None:
    for index in steps.case.angles:
        assert np.all(np.abs(steps.twin.following[:, index]) <= np.float32(math.pi) * (1 + 1e-6))


def test_observations_agree(steps: Any) -> None:
    error = np.abs(steps.twin.observation - steps.own.observation).max(1)
    wrong = error > steps.tolerance.max(1)
    wrong &= np.all(steps.difference <= steps.tolerance, axis=1)
    assert not np.any(wrong), steps.report(wrong)


def test_terminations_agree(steps: Any, every: int) -> None:
    """Except where Gymnasium's own next state is within the tolerance of the limit."""
    case = steps.case
    margin = case.margin(steps.own.following)
    expected = (margin >= 0) if case.limit_is_terminal else (margin > 0)
    np.testing.assert_array_equal(steps.own.terminated, expected)
    differs = steps.own.terminated != steps.twin.terminated
    wrong = differs & (np.abs(margin) > case.steepness * steps.tolerance.max(1))
    assert not np.any(wrong), steps.report(wrong)
    assert np.mean(differs) < 0.01
    if np.isfinite(margin).all():  # check that the samples are not trivial
        assert 0.02 < np.mean(steps.own.terminated) < 0.6
        for side in (margin > 0, margin < 0):
            assert np.sum(side & (np.abs(margin) < 0.01)) > 100 // every


def test_rewards_agree(steps: Any) -> None:
    same = steps.own.terminated == steps.twin.terminated
    error = np.abs(steps.twin.reward - steps.own.reward)
    wrong = same & (error > steps.case.reward_tolerance(steps.states, steps.own.reward))
    assert not np.any(wrong), steps.report(wrong)


@pytest.mark.parametrize(
    ("twin", "state", "terminal"),
    [
        (CartPole(), [2.4, 0.0, 0.0, 0.0], False),
        (CartPole(), [-2.4, 0.0, 0.0, 0.0], False),
        (CartPole(), [0.0, 0.0, CARTPOLE_ANGLE, 0.0], False),
        (CartPole(), [0.0, 0.0, -CARTPOLE_ANGLE, 0.0], False),
        (MountainCar(), [0.5, 0.0], True),
        (MountainCar(), [0.5, -1e-9], False),
        (MountainCarContinuous(), [0.45, 0.0], True),
        (MountainCarContinuous(), [0.45, -1e-9], False),
    ],
)
def test_the_limits_themselves(twin: Any, state: list[float], terminal: bool) -> None:
    """CartPole's limits are not terminal; a car at the goal is (in Gymnasium: next test)."""
    assert bool(twin.terminal(jnp.array(state, jnp.float32), None)) is terminal


def test_the_limits_themselves_in_gymnasium(case: Any, own: gymnasium.Env) -> None:
    """Gymnasium agrees, in steps that end exactly on the limit."""
    limits = {
        "CartPole-v1": [
            [2.4, 0.0, 0.0, 0.0],
            [-2.4, 0.0, 0.0, 0.0],
            [0.0, 0.0, CARTPOLE_ANGLE, 0.0],
            [0.0, 0.0, -CARTPOLE_ANGLE, 0.0],
        ],
        "MountainCar-v0": [[0.5, 0.0025 * math.cos(3 * 0.5)]],
        "MountainCarContinuous-v0": [[0.45, 0.0025 * math.cos(3 * np.float32(0.45))]],
    }.get(case.name, [])
    idle = {"MountainCar-v0": 1, "MountainCarContinuous-v0": np.zeros(1, np.float32)}
    for limit in limits:
        own.state = np.array(limit, case.carried)
        terminated = own.step(idle.get(case.name, 0))[2]
        assert terminated is case.limit_is_terminal
        assert case.margin(np.array([own.state]))[0] == 0


def test_resets_have_the_same_distribution(case: Any, own: gymnasium.Env) -> None:
    """Compare bounds, mean, second and mixed moments (within five standard errors), deciles."""
    low, high = np.array(
        {
            "CartPole-v1": ([-0.05] * 4, [0.05] * 4),
            "Acrobot-v1": ([-0.1] * 4, [0.1] * 4),
            "Pendulum-v1": ([-math.pi, -1.0], [math.pi, 1.0]),
        }.get(case.name, ([-0.6, 0.0], [-0.4, 0.0]))
    )
    own.reset(seed=0)
    owns = np.array([(own.reset(), np.array(own.state))[1] for _ in range(4_000)])
    keys = jax.random.split(jax.random.key(0), 20_000)
    twins = np.asarray(jax.jit(jax.vmap(case.twin.initial))(keys))
    width = high - low
    for sample in (owns, twins):
        assert np.all((sample >= np.float32(low)) & (sample <= np.float32(high)))
        error = 5 / math.sqrt(12 * len(sample))
        centred = sample - (low + high) / 2
        np.testing.assert_array_less(np.abs(centred.mean(0)), error * width + 1e-7)
        moments = centred.T @ centred / len(sample) - np.diag(width**2 / 12)
        bound = error * np.outer(width, width) / math.sqrt(12) + 1e-7
        np.testing.assert_array_less(np.abs(moments), bound)
    deciles = [np.quantile(sample, np.linspace(0, 1, 11), axis=0) for sample in (owns, twins)]
    assert np.all(np.abs(deciles[1] - deciles[0]) <= 0.05 * width + 1e-7)
    reached = 1e-3 * width + 1e-7  # 20,000 draws get this close; probability of failure e^-20
    assert np.all((twins.min(0) <= low + reached) & (twins.max(0) >= high - reached))


def test_spaces_are_equal(case: Any, own: gymnasium.Env) -> None:
    for space, expected in (
        (case.twin.observation_space, own.observation_space),
        (case.twin.action_space, own.action_space),
    ):
        assert space == expected
        assert space.dtype == expected.dtype


def test_float32_one_copy_or_many(case: Any, steps: Any) -> None:
    twin, many = case.twin, steps.twin
    assert many.following.dtype == many.observation.dtype == many.reward.dtype == np.float32
    assert many.terminated.dtype == np.bool_
    assert many.following.shape == steps.states.shape
    assert many.reward.shape == many.terminated.shape == steps.states.shape[:1]
    state = twin.initial(jax.random.key(1))
    assert state.dtype == jnp.float32
    assert twin.observation_space.contains(np.asarray(twin.observation(state, None)))
    state, action = jnp.asarray(steps.states[0]), jnp.asarray(steps.actions[0])

    @jax.jit
    def step(state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        following = twin.transition(state, action, None)
        reward = twin.reward(state, action, following, None)
        return following, reward, twin.terminal(following, None)

    following, reward, terminal = step(state, action)
    np.testing.assert_allclose(following, many.following[0], rtol=1e-6, atol=1e-6)
    assert following.dtype == reward.dtype == jnp.float32
    assert reward.shape == terminal.shape == ()


def test_cartpole_v0_is_v1_with_another_time_limit() -> None:
    old, new = gymnasium.spec("CartPole-v0"), gymnasium.spec("CartPole-v1")
    assert (old.entry_point, old.kwargs) == (new.entry_point, new.kwargs)


def test_cartpole_rewards_the_last_step() -> None:
    twin = CartPole()
    state, action = jnp.array([0.0, 0.0, 0.2, 3.0], jnp.float32), jnp.array(1)
    following = twin.transition(state, action, None)
    assert twin.terminal(following, None)
    assert twin.reward(state, action, following, None) == 1.0
