"""Test cases of the compiled twins: states, actions and float32 tolerances.

Each case is stepped once by Gymnasium's own environment and by the twin; tests compare the results.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
import pytest

from poise.envs.twins import Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum

UNIT = 2.0**-23
"""Spacing of float32 at 1."""

Samples = tuple[np.ndarray, np.ndarray]
"""States and actions."""


class StepResult(NamedTuple):
    """The results of one step from each of n states."""

    following: np.ndarray
    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray


@dataclasses.dataclass(frozen=True)
class Case:
    """A twin, the states to compare it in, and the tolerance that float32 requires."""

    name: str
    twin: Any
    samples: Callable[[gymnasium.Env, np.random.Generator], list[Samples]]
    scale: np.ndarray
    """For each component of the state: the size of the terms that a step adds."""
    margin: Callable[[np.ndarray], np.ndarray]
    """States -> distance inside (> 0) or outside (< 0) the set of terminal states."""
    limit_is_terminal: bool = False
    """Whether a state with margin 0 is terminal."""
    steepness: float = 1.0
    """Largest change of the margin per unit of change of the state."""
    amplification: Callable[[np.ndarray], np.ndarray | float] = lambda states: 1.0
    """States -> factor by which the step can amplify a rounding error."""
    reward_terms: Callable[[np.ndarray, np.ndarray], Any] = lambda states, rewards: 0.0
    """States, rewards -> size of the terms that a reward adds; 0 where it is exact."""
    carried: type = np.float64
    """The dtype in which Gymnasium's own environment holds its state."""
    angles: tuple[int, ...] = ()
    """Components of the state that are equal modulo a full turn."""
    left_wall: float | None = None

    def tolerance(self, states: np.ndarray, own_next: np.ndarray) -> np.ndarray:
        """Return the largest allowed difference of the next states, ``[n, components]``.

        The twin rounds its input, several terms and the output, each by at most 1 unit of the
        terms' size. The largest sums measured are 0.9 and, with Acrobot's four stages, 1.8.
        """
        roundings = 4 * UNIT * np.reshape(self.amplification(states), (-1, 1))
        return roundings * (self.scale + np.abs(own_next))

    def reward_tolerance(self, states: np.ndarray, own_rewards: np.ndarray) -> np.ndarray:
        """Return the largest allowed difference of the rewards, ``[n]``."""
        return 4 * UNIT * np.broadcast_to(self.reward_terms(states, own_rewards), len(states))


# --- Gymnasium's own steps and the twin's ---------------------------------------------------------


def own_environment(name: str) -> gymnasium.Env:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CartPole-v0 is out of date", DeprecationWarning)
        return gymnasium.make(name).unwrapped


def own_steps(env: gymnasium.Env, states: np.ndarray, actions: np.ndarray) -> StepResult:
    """Set each state in the environment and take one step."""
    rows = []
    for state, action in zip(states, actions, strict=True):
        env.state = state
        env.steps_beyond_terminated = None  # CartPole's; otherwise rewards after an end are 0
        observation, reward, terminated, truncated, _ = env.step(action)
        assert not truncated
        rows.append((env.state, observation, reward, terminated))
    return StepResult(*(np.array(column) for column in zip(*rows, strict=True)))


def twin_steps(twin: Any, states: np.ndarray, actions: np.ndarray) -> StepResult:
    """Step all states at once, compiled."""

    def step(state: Any, action: Any) -> StepResult:
        key = jax.random.key(0)
        following = twin.transition(state, action, key)
        return StepResult(
            following,
            twin.observation(following, key),
            twin.reward(state, action, following, key),
            twin.terminal(following, key),
        )

    return StepResult(*map(np.asarray, jax.jit(jax.vmap(step))(states, actions)))


# --- Samples of states and actions ----------------------------------------------------------------


def episodes(env: gymnasium.Env, rng: np.random.Generator, count: int, limit: int) -> Samples:
    """Return states and actions of episodes in which each random action is repeated."""
    states, actions = [], []
    env.reset(seed=int(rng.integers(2**31)))
    env.action_space.seed(int(rng.integers(2**31)))
    starts = rng.random(count) < 1 / limit
    changes = rng.random(count) < rng.choice([1.0, 0.2, 0.05], 1 + count // 500).repeat(500)[:count]
    action = env.action_space.sample()
    for start, change in zip(starts, changes, strict=True):
        if change:
            action = env.action_space.sample()
        states.append(np.array(env.state))
        actions.append(action)
        terminated = env.step(action)[2]
        if terminated or start:
            env.reset()
    return np.array(states), np.array(actions)


def box(rng: np.random.Generator, count: int, *bounds: float) -> np.ndarray:
    """Draw uniformly from ``[-bound, bound]``, with one column per bound."""
    return rng.uniform(-1, 1, (count, len(bounds))) * bounds


def around(rng: np.random.Generator, count: int, *values: float) -> np.ndarray:
    """Draw numbers on both sides of the values, at distances from 1e-7 to 0.1."""
    return rng.choice(values, count) + rng.choice([-1, 1], count) * 10 ** rng.uniform(-7, -1, count)


def cartpole_samples(env: gymnasium.Env, rng: np.random.Generator) -> list[Samples]:
    def pushes(count: int) -> np.ndarray:
        return rng.integers(2, size=count)

    # A step adds 0.02 velocities to positions: invert it to land next to the limits.
    at_position = box(rng, 15_000, 0.0, 3.0, 0.25, 3.0)
    at_position[:, 0] = around(rng, 15_000, -2.4, 2.4) - 0.02 * at_position[:, 1]
    at_angle = box(rng, 15_000, 2.5, 3.0, 0.0, 3.0)
    at_angle[:, 2] = around(rng, 15_000, -math.pi / 15, math.pi / 15) - 0.02 * at_angle[:, 3]
    return [
        episodes(env, rng, 40_000, 500),
        (box(rng, 20_000, 2.4, 4.0, 0.21, 4.0), pushes(20_000)),
        (box(rng, 10_000, 5.0, 10.0, math.pi, 10.0), pushes(10_000)),
        (at_position, pushes(15_000)),
        (at_angle, pushes(15_000)),
    ]


def acrobot_samples(env: gymnasium.Env, rng: np.random.Generator) -> list[Samples]:
    def torques(count: int) -> np.ndarray:
        return rng.integers(3, size=count)

    fast = box(rng, 4_000, math.pi, math.pi, 0.0, 0.0)
    fast[:, 2] = around(rng, 4_000, -4 * math.pi, 4 * math.pi, 0.0)
    fast[:, 3] = around(rng, 4_000, -9 * math.pi, 9 * math.pi, 0.0)
    turning = box(rng, 4_000, 0.0, 0.0, 4.0, 4.0)
    turning[:, 0] = around(rng, 4_000, -math.pi, math.pi, 0.0)
    turning[:, 1] = around(rng, 4_000, -math.pi, math.pi, 0.0)
    # cos(theta1 + theta2) = -1 - cos(theta1) at the goal's height.
    high = box(rng, 6_000, math.pi, 0.0, 1.0, 1.0)
    high[:, 0] = rng.uniform(math.pi / 2, 3 * math.pi / 2, 6_000)
    elbow = rng.choice([-1, 1], 6_000) * np.arccos(-1 - np.cos(high[:, 0])) - high[:, 0]
    high[:, :2] = np.stack([high[:, 0], elbow + around(rng, 6_000, 0.0)], 1)
    high[:, :2] -= 2 * math.pi * np.round(high[:, :2] / (2 * math.pi))
    return [
        episodes(env, rng, 6_000, 500),
        (box(rng, 6_000, math.pi, math.pi, 4 * math.pi, 9 * math.pi), torques(6_000)),
        (box(rng, 6_000, math.pi, math.pi, 6.0, 9.0), torques(6_000)),
        (fast, torques(4_000)),
        (turning, torques(4_000)),
        (high, torques(6_000)),
    ]


def car_samples(
    env: gymnasium.Env, rng: np.random.Generator, goal: float, continuous: bool
) -> list[Samples]:
    def throttles(count: int) -> np.ndarray:
        if continuous:
            clipped = rng.choice([-1.0, 1.0], count)
            action = np.where(rng.random(count) < 0.1, clipped, rng.uniform(-1.5, 1.5, count))
            return action.astype(np.float32)[:, None]
        return rng.integers(3, size=count)

    def before(position: np.ndarray, velocity: np.ndarray) -> Samples:
        """Return state and action that lead to a position and velocity, before any clipping."""
        action = throttles(len(position))
        engine = 0.0015 * np.clip(action[:, 0], -1, 1) if continuous else 0.001 * (action - 1)
        position = position - np.clip(velocity, -0.07, 0.07)
        velocity = velocity - engine + 0.0025 * np.cos(3 * position)
        return np.stack([position, velocity], 1), action

    wide = np.stack([rng.uniform(-1.2, 0.6, 10_000), rng.uniform(-0.07, 0.07, 10_000)], 1)
    outside = np.stack([rng.uniform(-2.0, 1.0, 5_000), rng.uniform(-0.2, 0.2, 5_000)], 1)
    slow = 0.01 * around(rng, 5_000, 0.0)
    anywhere = rng.uniform(-1.2, 0.6, 5_000)
    return [
        episodes(env, rng, 10_000, 200),
        (wide, throttles(10_000)),
        (outside, throttles(5_000)),
        before(around(rng, 10_000, -1.2, 0.6, goal), rng.uniform(-0.1, 0.1, 10_000)),
        before(around(rng, 5_000, -1.2, 0.6, goal), slow),
        before(anywhere, 0.07 * around(rng, 5_000, -1.0, 1.0)),
    ]


def pendulum_samples(env: gymnasium.Env, rng: np.random.Generator) -> list[Samples]:
    def torques(count: int) -> np.ndarray:
        limit = np.where(rng.random(count) < 0.1, rng.choice([-2.0, 2.0], count), 0.0)
        action = np.where(limit == 0.0, rng.uniform(-3.0, 3.0, count), limit)
        return action.astype(np.float32)[:, None]

    half_turns = math.pi * np.arange(-9, 10)
    turning = np.stack([around(rng, 10_000, *half_turns), rng.uniform(-8, 8, 10_000)], 1)
    fast = box(rng, 10_000, math.pi, 0.0)
    torque = torques(10_000)
    kick = 0.05 * (15 * np.sin(fast[:, 0]) + 3 * np.clip(torque[:, 0], -2, 2))
    fast[:, 1] = around(rng, 10_000, -8.0, 8.0) - kick
    return [
        episodes(env, rng, 10_000, 200),
        (box(rng, 10_000, math.pi, 10.0), torques(10_000)),
        (box(rng, 10_000, 100.0, 8.0), torques(10_000)),
        (turning, torques(10_000)),
        (fast, torque),
    ]


# --- The cases ------------------------------------------------------------------------------------

CASES = [
    Case(
        "CartPole-v1",
        CartPole(),
        cartpole_samples,
        scale=np.array([1.0, 1.0, 1.0, 1.0]),
        margin=lambda s: np.maximum(np.abs(s[:, 0]) - 2.4, np.abs(s[:, 2]) - 24 * math.pi / 360),
    ),
    Case(
        "Acrobot-v1",
        Acrobot(),
        acrobot_samples,
        scale=np.array([1.0, 1.0, 4.0, 4.0]),
        margin=lambda s: -np.cos(s[:, 0]) - np.cos(s[:, 1] + s[:, 0]) - 1.0,
        steepness=3.0,
        # Grönwall: the dynamics are Lipschitz with a constant of the order of the speeds.
        amplification=lambda s: np.exp(0.2 * (np.abs(s[:, 2]) + np.abs(s[:, 3]))),
        angles=(0, 1),
    ),
    Case(
        "MountainCar-v0",
        MountainCar(),
        lambda env, rng: car_samples(env, rng, goal=0.5, continuous=False),
        scale=np.array([1.0, 0.01]),
        margin=lambda s: np.minimum(s[:, 0] - 0.5, s[:, 1]),
        limit_is_terminal=True,
        left_wall=-1.2,
    ),
    Case(
        "MountainCarContinuous-v0",
        MountainCarContinuous(),
        lambda env, rng: car_samples(env, rng, goal=0.45, continuous=True),
        scale=np.array([1.0, 0.01]),
        margin=lambda s: np.minimum(s[:, 0] - np.float32(0.45), s[:, 1]),
        limit_is_terminal=True,
        reward_terms=lambda states, rewards: 1 + np.abs(rewards),
        carried=np.float32,
        left_wall=-1.2,
    ),
    Case(
        "Pendulum-v1",
        Pendulum(),
        pendulum_samples,
        scale=np.array([1.0, 1.0]),
        margin=lambda s: np.full(len(s), -np.inf),
        # An unwrapped angle's rounding comes before its square, whose slope is up to 2 pi.
        reward_terms=lambda s, rewards: 1 + np.abs(rewards) + 2 * math.pi * np.abs(s[:, 0]),
    ),
]


# --- Fixtures -------------------------------------------------------------------------------------


class Steps(NamedTuple):
    """One step from each of a case's states, Gymnasium's own and the twin's."""

    case: Case
    states: np.ndarray
    actions: np.ndarray
    own: StepResult
    twin: StepResult
    difference: np.ndarray
    tolerance: np.ndarray

    def report(self, failed: np.ndarray) -> str:
        """Format the first rows that failed."""
        rows = np.flatnonzero(failed)
        columns = (self.states, self.actions, self.own.following, self.twin.following)
        first = ["  ".join(str(column[row]) for column in columns) for row in rows[:5]]
        return "\n".join([f"{len(rows)} failed (state, action, own next, twin's next):", *first])


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def own(case: Case) -> gymnasium.Env:
    return own_environment(case.name)


@pytest.fixture(
    scope="module",
    params=[pytest.param(5, id="a fifth"), pytest.param(1, id="all", marks=pytest.mark.slow)],
)
def every(request: pytest.FixtureRequest) -> int:
    """Of so many samples, one is stepped; Gymnasium's own environments take long for all."""
    return int(request.param)


@pytest.fixture(scope="module")
def steps(case: Case, own: gymnasium.Env, every: int) -> Steps:
    samples = case.samples(own, np.random.default_rng(0))
    states = np.concatenate([np.asarray(part[0], np.float32) for part in samples])[::every]
    actions = np.concatenate([part[1] for part in samples])[::every]
    owns = own_steps(own, states.astype(case.carried), actions)
    twins = twin_steps(case.twin, states, actions)
    difference = twins.following - owns.following.astype(np.float64)
    for index in case.angles:
        difference[:, index] -= 2 * math.pi * np.round(difference[:, index] / (2 * math.pi))
    tolerance = case.tolerance(states, owns.following)
    return Steps(case, states, actions, owns, twins, np.abs(difference), tolerance)
