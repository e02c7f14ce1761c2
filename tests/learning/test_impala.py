"""IMPALA and APPO: equal to A3C and PPO where the acting policy learns, V-trace elsewhere."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from poise.agent.agent import Agent
from poise.learning.algorithms.algorithm import Algorithm, LearnsFromTrajectories
from poise.learning.algorithms.appo import APPO
from poise.learning.algorithms.impala import Impala
from poise.learning.algorithms.ppo import PPO
from poise.trajectory import Trajectory

from ..agent.examples import recurrent_agent
from ..agent.rollouts import COPIES, make, trajectory
from ..maths.literal import segments, v_trace_advantages, v_trace_targets
from .test_ppo import RATE, SHARED, differentiate, learn, on_policy

ON_POLICY: dict[str, Any] = {**SHARED, "gae_lambda": 1.0}
CLIPS: dict[str, Any] = {"vtrace_rho_clip": 1.0, "vtrace_c_clip": 1.0}
IMPALA = Impala(**ON_POLICY, **CLIPS)
PASSES: dict[str, Any] = {
    "clip_range": 0.2,
    "epochs": 2,
    "minibatches": 2,
    "recompute_advantages": False,
}


@pytest.mark.parametrize("algorithm", [IMPALA, APPO(**ON_POLICY, **CLIPS, **PASSES)])
def test_they_are_algorithms_that_learn_from_trajectories(algorithm: Any) -> None:
    assert isinstance(algorithm, Algorithm)
    assert isinstance(algorithm, LearnsFromTrajectories)


@pytest.mark.parametrize(
    "actions", ["discrete", pytest.param("continuous", marks=pytest.mark.slow)]
)
def test_with_the_policy_that_acted_impala_is_a3c(actions: str) -> None:
    agent, parameters = make(actions, (4,))
    batch = on_policy(agent, parameters)
    gradient, terms = differentiate(agent, parameters, batch, gae_lambda=1.0)
    found, count, metrics = learn(IMPALA, agent, parameters, batch)
    assert count == 1
    np.testing.assert_allclose(found, parameters - RATE * gradient, rtol=1e-4, atol=1e-6)
    names = "loss", "policy_loss", "value_loss", "entropy"
    for name, term in zip(names, terms, strict=False):
        np.testing.assert_allclose(metrics[name], term, rtol=1e-4, atol=1e-6)
    assert metrics["importance_weight"] == pytest.approx(1.0, abs=1e-5)


def test_with_the_policy_that_acted_appo_is_ppo() -> None:
    agent, parameters = make("discrete", (4,))
    batch = on_policy(agent, parameters)
    ours = learn(APPO(**ON_POLICY, **CLIPS, **PASSES), agent, parameters, batch)
    theirs = learn(PPO(**ON_POLICY, **PASSES), agent, parameters, batch)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    assert ours[1] == theirs[1] == 4


def outputs(agent: Agent, parameters: Any, batch: Trajectory) -> tuple[Any, Any, Any]:
    """Return log-probabilities ``[T, N]``, values ``[T+1, N]`` and entropies ``[T, N]``."""
    apply = jax.jit(lambda one: agent.apply(parameters, one, (), np.bool_(False))[:2])
    found = [[apply(one) for one in row] for row in np.asarray(batch.observations)]
    dist_params = np.asarray([[one[0] for one in row] for row in found])
    values = np.asarray([[one[1] for one in row] for row in found])
    scores = agent.head.log_probability(dist_params[:-1], np.asarray(batch.actions))
    return scores, values, agent.head.entropy(dist_params[:-1])


@pytest.mark.parametrize("clips", [(1.0, 1.0), (2.0, 0.7)])
def test_off_policy_the_loss_is_that_of_the_paper(clips: tuple[float, float]) -> None:
    agent, parameters = make("discrete", (4,))
    plain = {**ON_POLICY, "normalize_advantages": False}
    algorithm = Impala(**plain, vtrace_rho_clip=clips[0], vtrace_c_clip=clips[1])
    batch = trajectory(agent)
    other = make("discrete", (4,))[1][::-1].copy()
    behaviour = outputs(agent, other, batch)[0].astype(np.float32)
    batch = batch._replace(behaviour_log_probabilities=behaviour)
    scores, values, entropies = outputs(agent, parameters, batch)
    ratios = np.exp(scores.astype(np.float64) - behaviour)
    assert (ratios > 1).any()
    assert (ratios < 1).any()
    policy, squares = [], []
    for copy in range(COPIES):
        flags = batch.terminated[:, copy], batch.truncated[:, copy], batch.valid[:, copy]
        given = values[:, copy], batch.rewards[:, copy], segments(*flags), plain["discount"]
        targets = v_trace_targets(*given, ratios[:, copy], *clips)
        advantages = v_trace_advantages(*given, targets)
        weights = np.minimum(clips[0], ratios[:, copy])
        policy.append((-scores[:, copy] * weights * advantages)[flags[2]])
        squares.append((0.5 * (targets - values[:-1, copy]) ** 2)[flags[2]])
    _, _, metrics = learn(algorithm, agent, parameters, jax.tree.map(np.asarray, batch))
    assert metrics["policy_loss"] == pytest.approx(np.mean(np.concatenate(policy)), rel=1e-4)
    assert metrics["value_loss"] == pytest.approx(np.mean(np.concatenate(squares)), rel=1e-4)
    assert metrics["entropy"] == pytest.approx(entropies[batch.valid].mean(), rel=1e-4)
    clipped = np.minimum(clips[0], ratios)[batch.valid]
    assert metrics["importance_weight"] == pytest.approx(clipped.mean(), rel=1e-4)


@pytest.mark.parametrize("name", ["impala", pytest.param("appo", marks=pytest.mark.slow)])
def test_an_action_that_was_never_taken_has_no_effect(name: str) -> None:
    """In steps that only reset, any log-probability may stand."""
    agent, parameters = make("discrete", (4,))
    made: dict[str, Any] = {"impala": IMPALA, "appo": APPO(**ON_POLICY, **CLIPS, **PASSES)}
    batch = on_policy(agent, parameters)
    scores = np.asarray(batch.behaviour_log_probabilities)
    odd = batch._replace(behaviour_log_probabilities=np.where(batch.valid, scores, -200.0))
    one, other = (learn(made[name], agent, parameters, each) for each in (batch, odd))
    np.testing.assert_array_equal(one[0], other[0])


def test_memory_is_unrolled_from_the_rollouts_initial_state() -> None:
    agent, parameters = recurrent_agent(inputs=2, actions=3)
    state = np.float32([[0.5, -0.5, 0.1], [0.2, 0.3, -0.4]])
    batch = on_policy(agent, parameters, trajectory(agent)._replace(initial_state=state))
    gradient, _ = differentiate(agent, parameters, batch, gae_lambda=1.0)
    found, _, _ = learn(IMPALA, agent, parameters, batch)
    np.testing.assert_allclose(found, parameters - RATE * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_lambda_shortens_the_traces() -> None:
    """With lambda 0, the target of a value is the one-step return."""
    agent, parameters = make("discrete", (4,))
    batch = on_policy(agent, parameters)
    one_step = dataclasses.replace(IMPALA, gae_lambda=0.0)
    _, _, metrics = learn(one_step, agent, parameters, batch)
    _, terms = differentiate(agent, parameters, batch, gae_lambda=0.0)
    assert metrics["value_loss"] == pytest.approx(float(terms[2]), rel=1e-4)
