"""Asynchronous Q-learning and Sarsa: targets and gradients by hand, and exploration."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.agent.epsilon_greedy import EPSILON, EpsilonGreedyHead, ExplorationNoise
from poise.agent.noise import draw_with_generator, draw_with_key
from poise.agent.policy import Policy
from poise.agent.policy_file import policy_from_bytes, policy_to_bytes
from poise.config import EnvironmentChoice, TrainConfig
from poise.errors import ConfigError, UnsupportedSpaceError
from poise.learning.algorithms.action_values import FINAL_EPSILONS, SHARES, ActionValueLearning
from poise.learning.algorithms.algorithm import Algorithm, Explores
from poise.learning.algorithms.registry import make_algorithm
from poise.trajectory import Snapshot, Trajectory

from ..agent.rollouts import ACTIONS, COPIES, LENGTH, OBSERVATIONS, trajectory
from ..maths.literal import n_step_returns, one_step_targets, segments

NAMES = "nstep_q", "one_step_q", "one_step_sarsa"
DISCOUNT = 0.9
SPEC = NetworkSpec((4,), action_values=True)


def make(name: str, **settings: Any) -> ActionValueLearning:
    chosen = {"discount": DISCOUNT, "envs_per_worker": COPIES, "rollout_length": LENGTH, **settings}
    made = make_algorithm(TrainConfig(algorithm=name, **chosen))
    assert isinstance(made, ActionValueLearning)
    return made


@pytest.fixture(scope="module")
def agent() -> Agent:
    return build_agent(OBSERVATIONS, ACTIONS["discrete"], SPEC, None)[0]


def vector(agent: Agent, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(0, 0.5, agent.layout.size)
    return drawn.astype(np.float32)


def action_values(agent: Agent, parameters: np.ndarray, rollout: Trajectory) -> np.ndarray:
    """Return ``[T+1, N, A]``."""
    apply = jax.jit(lambda one: agent.apply(parameters, one, (), np.bool_(False)).dist_params)
    rows = [[apply(one) for one in row] for row in rollout.observations]
    return np.asarray(rows)


def expected_targets(name: str, target_values: np.ndarray, rollout: Trajectory) -> np.ndarray:
    """Return the papers' targets ``[T, N]``; NaN where none is known."""
    targets = np.full((LENGTH, COPIES), np.nan)
    for copy in range(COPIES):
        flags = (rollout.terminated[:, copy], rollout.truncated[:, copy], rollout.valid[:, copy])
        parts, rewards = segments(*flags), rollout.rewards[:, copy]
        best = target_values[:, copy].max(axis=-1)
        if name == "nstep_q":
            column = n_step_returns(best, rewards, parts, DISCOUNT)
        elif name == "one_step_q":
            column = one_step_targets(best[1:], rewards, parts, DISCOUNT)
        else:
            taken = target_values[np.arange(LENGTH), copy, rollout.actions[:, copy]]
            following = np.append(taken[1:], np.nan)
            column = one_step_targets(following, rewards, parts, DISCOUNT)
        targets[:, copy] = np.where(flags[2], column, np.nan)
    return targets


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_squared_error(agent: Agent, name: str) -> None:
    made, rollout = make(name), trajectory(agent)
    parameters, target_parameters = vector(agent, 1), vector(agent, 2)
    snapshot = Snapshot(np.int32(0), jnp.asarray(parameters), (), jnp.asarray(target_parameters))
    gradient, metrics = jax.jit(lambda *given: made.compute(agent, *given))(snapshot, rollout)
    targets = expected_targets(name, action_values(agent, target_parameters, rollout), rollout)
    known = np.isfinite(targets)
    assert known.sum() == rollout.valid.sum() - (name == "one_step_sarsa")

    def loss(parameters: np.ndarray) -> float:
        values = action_values(agent, parameters, rollout)[:-1].astype(np.float64)
        taken = np.take_along_axis(values, rollout.actions[..., None], -1)[..., 0]
        return float(0.5 * np.mean((targets - taken)[known] ** 2))

    named = dict(zip(made.metrics, np.asarray(metrics).tolist(), strict=True))
    assert named["loss"] == pytest.approx(loss(parameters), rel=1e-4)
    assert named["epsilon"] == 1.0
    found = np.asarray(gradient.vector, np.float64)
    assert named["gradient_norm"] == pytest.approx(np.linalg.norm(found), rel=1e-4)
    # Along its own direction, the loss changes as the gradient says.
    step = 1e-2 * found / np.linalg.norm(found)
    before, after = (loss((parameters + sign * step).astype(np.float32)) for sign in (-1, 1))
    assert after - before == pytest.approx(2 * found @ step, rel=2e-2)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_algorithms_that_explore(name: str) -> None:
    assert isinstance(make(name), Algorithm)
    assert isinstance(make(name), Explores)


@pytest.mark.parametrize("in_xla", [False, True])
def test_epsilon_falls_from_1_to_the_papers_final_values(in_xla: bool) -> None:
    made = make("nstep_q", envs_per_worker=1, rollout_length=10, exploration_steps=100)
    copies = 20_000
    noise = ExplorationNoise(*[np.zeros((2, copies), np.float32)] * 3)

    def epsilon(version: int) -> np.ndarray:
        if in_xla:
            draw = draw_with_key(jax.random.key(0))
            explored = made.explore(jax.tree.map(jnp.asarray, noise), jnp.int32(version), draw)
        else:
            draw = draw_with_generator(np.random.default_rng(0))
            explored = made.explore(noise, np.int32(version), draw)
        found = np.asarray(explored.epsilon)
        np.testing.assert_array_equal(found[0], found[1])
        return found[0]

    np.testing.assert_array_equal(epsilon(0), 1.0)
    for version in (10, 10**6):
        final, counts = np.unique(epsilon(version), return_counts=True)
        np.testing.assert_allclose(final, np.sort(FINAL_EPSILONS), rtol=1e-6)
        shares = dict(zip(np.sort(FINAL_EPSILONS).tolist(), counts / copies, strict=True))
        for value, share in zip(FINAL_EPSILONS.tolist(), SHARES.tolist(), strict=True):
            assert shares[value] == pytest.approx(share, abs=0.02)
    np.testing.assert_allclose(np.unique(epsilon(5)), (1 + np.sort(FINAL_EPSILONS)) / 2, rtol=1e-6)


def test_a_final_epsilon_may_be_set() -> None:
    made = make("nstep_q", exploration_steps=1, final_epsilon=0.25)
    noise = ExplorationNoise(*[np.zeros((3, 2), np.float32)] * 3)
    explored = made.explore(noise, np.int32(7), draw_with_generator(np.random.default_rng(0)))
    np.testing.assert_array_equal(explored.epsilon, np.full((3, 2), 0.25, np.float32))


def test_actions_are_random_as_often_as_epsilon_says() -> None:
    head = EpsilonGreedyHead(3, 0)
    noise = head.noise(draw_with_generator(np.random.default_rng(0)), (30_000,))
    values = np.tile(np.float32([0.0, 2.0, 1.0]), (30_000, 1))
    usual = np.bincount(head.sample(values, noise)) / 30_000
    np.testing.assert_allclose(usual, [EPSILON / 3, 1 - EPSILON * 2 / 3, EPSILON / 3], atol=0.01)
    always = noise._replace(epsilon=np.ones(30_000, np.float32))
    np.testing.assert_allclose(np.bincount(head.sample(values, always)) / 30_000, 1 / 3, atol=0.02)
    np.testing.assert_array_equal(head.sample(values, None), 1)
    highest = ExplorationNoise(*(np.float32([x]) for x in (0.0, np.nextafter(1.0, 0.0), 1.0)))
    assert head.sample(values[:1], highest).tolist() == [2], "rounding does not exceed the actions"


def test_the_value_of_an_observation_is_that_of_its_best_action(agent: Agent) -> None:
    policy = Policy(agent, vector(agent, 1), EnvironmentChoice("x"))
    observation = np.float32([0.1, -0.2, 0.3])
    output = agent.apply(policy.parameters, observation, (), np.bool_(True))
    assert policy.value(observation) == pytest.approx(float(output.dist_params.max()))
    assert policy.act(observation) == int(output.dist_params.argmax())


def test_a_saved_policy_plays_the_same(agent: Agent) -> None:
    policy = Policy(agent, vector(agent, 1), EnvironmentChoice("CartPole-v1"))
    loaded = policy_from_bytes(policy_to_bytes(policy), "policy.safetensors")
    assert isinstance(loaded.agent.head, EpsilonGreedyHead)
    observations = np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    for greedy in (True, False):
        given = policy.act(observations, greedy=greedy, seed=1)
        np.testing.assert_array_equal(given, loaded.act(observations, greedy=greedy, seed=1))


def test_a_network_for_images_computes_action_values() -> None:
    images = spaces.Box(0, 255, (20, 20, 1), np.uint8)
    made, parameters = build_agent(images, spaces.Discrete(3), SPEC, None)
    with_critic, more = build_agent(
        images, spaces.Discrete(3), dataclasses.replace(SPEC, action_values=False), None
    )
    assert len(parameters) < len(more)
    output = made.apply(parameters + 0.01, images.sample(), (), np.bool_(True))
    assert float(output.value) == float(output.dist_params.max())
    assert with_critic.network.shapes().value


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (1,)), spaces.MultiDiscrete([2, 2])])
def test_actions_that_are_not_discrete_are_refused(space: Any) -> None:
    with pytest.raises(UnsupportedSpaceError, match="needs a Discrete one: choose another"):
        build_agent(OBSERVATIONS, space, SPEC, None)


def test_sarsa_needs_rollouts_of_two_steps() -> None:
    with pytest.raises(ConfigError, match="make it at least 2"):
        TrainConfig(algorithm="one_step_sarsa", rollout_length=1)
