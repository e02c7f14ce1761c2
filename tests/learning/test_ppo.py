"""PPO: one pass over a batch by hand, minibatches, and networks with memory."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.agent.agent import Agent
from poise.agent.gradient import actor_critic_gradient
from poise.learning.algorithms.algorithm import Algorithm, LearnsFromTrajectories
from poise.learning.algorithms.ppo import PPO
from poise.trajectory import Snapshot, Trajectory

from ..agent.examples import recurrent_agent
from ..agent.rollouts import COPIES, LENGTH, VALID, make, trajectory

SHARED: dict[str, Any] = {
    "discount": 0.9,
    "gae_lambda": 0.8,
    "normalize_advantages": True,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.01,
}
ONCE = PPO(**SHARED, clip_range=0.2, epochs=1, minibatches=1, recompute_advantages=False)
RATE = np.float32(0.5)


def descend(parameters: Any, state: Any, gradient: Any, norm: Any, rate: Any) -> Any:
    """Plain gradient descent that counts its steps."""
    return parameters - rate * gradient, state + 1


def learn(
    algorithm: Any, agent: Agent, parameters: Any, batch: Trajectory, seed: int = 0
) -> tuple[np.ndarray, int, dict[str, float]]:
    run = jax.jit(lambda *given: algorithm.learn(agent, descend, *given))
    found, count, metrics = run(parameters, 0, batch, RATE, jax.random.key(seed))
    named = dict(zip(algorithm.metrics, np.asarray(metrics).tolist(), strict=True))
    return np.asarray(found), int(count), named


def on_policy(agent: Agent, parameters: Any, rollout: Trajectory | None = None) -> Trajectory:
    """Make a rollout whose log-probabilities are those of the given parameters."""
    rollout = rollout or trajectory(agent)

    @jax.jit
    def score(parameters: Any, rollout: Trajectory) -> Any:
        weights = agent.layout.unflatten(parameters)
        columns = []
        for copy in range(COPIES):
            output = agent.network.unroll(
                weights,
                rollout.observations[:, copy],
                jax.tree.map(lambda leaf, copy=copy: leaf[copy], rollout.initial_state),
                rollout.first[:, copy],
            )
            taken = rollout.actions[:, copy]
            columns.append(agent.head.log_probability(output.dist_params[:-1], taken))
        return jnp.stack(columns, axis=1)

    scored = rollout._replace(behaviour_log_probabilities=score(parameters, rollout))
    found: Trajectory = jax.tree.map(jnp.asarray, scored)
    return found


def differentiate(
    agent: Agent, parameters: Any, batch: Trajectory, **settings: Any
) -> tuple[Any, Any]:
    run = jax.jit(lambda *given: actor_critic_gradient(agent, *given, **{**SHARED, **settings}))
    gradient, terms = run(parameters, batch)
    return np.asarray(gradient), np.asarray(terms)


def test_it_is_an_algorithm_that_learns_from_trajectories() -> None:
    assert isinstance(ONCE, Algorithm)
    assert isinstance(ONCE, LearnsFromTrajectories)


@pytest.mark.parametrize(
    "actions", ["discrete", pytest.param("continuous", marks=pytest.mark.slow)]
)
def test_one_pass_over_the_whole_batch_is_a_step_of_a2c(actions: str) -> None:
    """At the policy that acted, every ratio is 1."""
    agent, parameters = make(actions, (4,))
    batch = on_policy(agent, parameters)
    gradient, terms = differentiate(agent, parameters, batch)
    found, count, metrics = learn(ONCE, agent, parameters, batch)
    assert count == 1
    np.testing.assert_allclose(found, parameters - RATE * gradient, rtol=1e-4, atol=1e-6)
    # The policy terms have the same gradient but different values (log-probabilities, ratios).
    for name, term in zip(("value_loss", "entropy", "gradient_norm"), terms[2:], strict=True):
        np.testing.assert_allclose(metrics[name], term, rtol=1e-4, atol=1e-6)
    assert metrics["clip_fraction"] == 0.0
    assert abs(metrics["approximate_kl"]) < 1e-6


@pytest.mark.slow
def test_memory_is_unrolled_from_the_rollouts_initial_state() -> None:
    agent, parameters = recurrent_agent(inputs=2, actions=3)
    state = np.float32([[0.5, -0.5, 0.1], [0.2, 0.3, -0.4]])
    batch = on_policy(agent, parameters, trajectory(agent)._replace(initial_state=state))
    gradient, _ = differentiate(agent, parameters, batch)
    found, _, metrics = learn(ONCE, agent, parameters, batch)
    np.testing.assert_allclose(found, parameters - RATE * gradient, rtol=1e-4, atol=1e-6)
    assert metrics["clip_fraction"] == 0.0


def test_every_epoch_goes_over_the_batch_in_minibatches() -> None:
    agent, parameters = make("discrete", (4,))
    batch = on_policy(agent, parameters)
    many = dataclasses.replace(ONCE, epochs=3, minibatches=2)
    found, count, metrics = learn(many, agent, parameters, batch)
    assert count == 6
    assert metrics["approximate_kl"] > 0
    other, _, _ = learn(many, agent, parameters, batch, seed=1)
    assert not np.array_equal(found, other), "minibatches are drawn"


@pytest.mark.slow
def test_advantages_may_be_estimated_anew_for_each_pass() -> None:
    """Two passes are then two updates from the same rollouts, each with one pass."""
    agent, parameters = make("discrete", (4,))
    batch = on_policy(agent, parameters)
    twice = dataclasses.replace(ONCE, epochs=2, recompute_advantages=True)
    found, _, _ = learn(twice, agent, parameters, batch)
    first, _, _ = learn(ONCE, agent, parameters, batch)
    second, _, _ = learn(ONCE, agent, first, batch)
    np.testing.assert_allclose(found, second, rtol=1e-5, atol=1e-6)
    once, _, _ = learn(dataclasses.replace(ONCE, epochs=2), agent, parameters, batch)
    assert not np.allclose(found, once, rtol=1e-4)


def test_minibatches_that_do_not_divide_evenly_leave_a_remainder() -> None:
    """This happens when a worker is lost; settings that do not divide evenly are refused."""
    agent, parameters = make("discrete", (4,))
    batch = on_policy(agent, parameters)
    assert LENGTH * COPIES % 4
    _, count, _ = learn(dataclasses.replace(ONCE, minibatches=4), agent, parameters, batch)
    assert count == 4


def test_workers_send_the_rollout_and_metrics_that_show_whether_it_is_finite() -> None:
    agent, parameters = make("discrete", (4,))
    rollout = on_policy(agent, parameters)
    snapshot = Snapshot(np.int32(0), jnp.asarray(parameters))
    compute = jax.jit(functools.partial(ONCE.compute, agent))
    sent, metrics = compute(snapshot, rollout)
    assert jax.tree.all(jax.tree.map(np.array_equal, ONCE.payload(sent), rollout))
    assert metrics.shape == (len(ONCE.worker_metrics),)
    np.testing.assert_allclose(metrics[1], rollout.rewards[VALID].mean(), rtol=1e-5)
    columns = {
        "observations": np.asarray(rollout.observations),
        "rewards": np.asarray(rollout.rewards),
        "behaviour_log_probabilities": np.asarray(rollout.behaviour_log_probabilities),
    }
    with jax.debug_nans(False):
        for name, column in columns.items():
            broken = rollout._replace(**{name: np.where(column == column.max(), np.nan, column)})
            assert not np.isfinite(compute(snapshot, broken)[1]).all(), name


def test_values_that_moved_too_far_learn_nothing_more() -> None:
    """In a second pass over the batch; the first one begins at the values that are kept."""
    agent, parameters = make("discrete", (4,))
    batch = on_policy(agent, parameters)
    values_only = dataclasses.replace(
        ONCE, epochs=2, value_coefficient=1.0, value_clip_range=1e-6, entropy_coefficient=0.0
    )
    policy = dataclasses.replace(values_only, value_coefficient=0.0)
    found, _, _ = learn(values_only, agent, parameters, batch)
    once = dataclasses.replace(values_only, epochs=1)
    first, _, _ = learn(once, agent, parameters, batch)
    unclipped = dataclasses.replace(values_only, value_clip_range=None)
    further, _, _ = learn(unclipped, agent, parameters, batch)
    start, _, _ = learn(policy, agent, parameters, batch)
    moved = np.abs(first - parameters) > 1e-7
    # The value's own layers are those that the policy's loss does not move.
    of_value = moved & (np.abs(start - parameters) < 1e-9)
    assert of_value.any()
    assert np.abs(further - first)[of_value].max() > 1e-4
    # A value may be clipped only where that makes the loss larger, so some still move.
    assert np.abs(found - first)[of_value].sum() < np.abs(further - first)[of_value].sum()
