"""IMPALA: importance-weighted actor-learner architecture (Espeholt et al. 2018, arXiv 1802.01561).

Workers send their rollouts and act on at once with the newest parameters. As many rollouts as there
are workers form a batch, from which the server learns once. V-trace corrects for the parameters
having changed since a rollout began. No more than a batch of rollouts ever waits: a worker that
sends the last one of a batch continues when the server has learned from it.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from poise.agent.agent import Agent
from poise.agent.gradient import global_norm, network_outputs
from poise.learning.algorithms.actor_critic import ActorCriticSettings
from poise.learning.algorithms.rollout_payload import RolloutPayload
from poise.learning.discipline import DisciplineName
from poise.learning.optimizer import OptimizerState, Update
from poise.maths.losses import actor_critic_loss, masked_mean
from poise.maths.returns import VTrace, normalize, vtrace
from poise.trajectory import Trajectory

__all__ = ["Impala", "vtrace_of"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Impala(RolloutPayload, ActorCriticSettings):
    """IMPALA with its settings, which are described in `TrainConfig`."""

    vtrace_rho_clip: float
    vtrace_c_clip: float

    name: ClassVar[str] = "impala"
    discipline: ClassVar[DisciplineName] = "batched"
    metrics: ClassVar[tuple[str, ...]] = (
        *("loss", "policy_loss", "value_loss", "entropy"),
        *("importance_weight", "gradient_norm"),
    )

    def learn(
        self,
        agent: Agent,
        update: Update,
        parameters: Any,
        optimizer_state: OptimizerState,
        batch: Trajectory,
        learning_rate: Any,
        key: Any,
    ) -> tuple[Any, OptimizerState, Any]:
        """See `LearnsFromTrajectories.learn`; takes one step of the optimizer."""
        del key

        def loss(vector: Any) -> tuple[Any, Any]:
            outputs, values = network_outputs(agent, vector, batch)
            acted = outputs[:-1]
            scores = agent.head.log_probability(acted, batch.actions)
            found = vtrace_of(self, scores, values, batch)
            advantages = found.weights * found.advantages
            if self.normalize_advantages:
                advantages = normalize(advantages, batch.valid)
            terms = actor_critic_loss(
                scores,
                agent.head.entropy(acted),
                values[:-1],
                advantages,
                found.targets,
                batch.valid,
                self.value_coefficient,
                self.entropy_weight(batch.version),
                self.value_loss,
            )
            return terms.total, (*terms, masked_mean(found.weights, batch.valid))

        gradient, terms = jax.grad(loss, has_aux=True)(parameters)
        norm = global_norm(gradient)
        learned = update(parameters, optimizer_state, gradient, norm, learning_rate)
        return *learned, jnp.stack([*terms, norm]).astype(jnp.float32)


def vtrace_of(settings: Any, scores: Any, values: Any, batch: Trajectory) -> VTrace:
    """Apply V-trace to every copy of a batch; no gradient flows through the results, ``[T, N]``.

    Args:
        settings: an algorithm with the settings of V-trace.
        scores: ``[T, N]``, log-probabilities of the actions under the parameters that learn.
        values: ``[T+1, N]``.
        batch: the workers' rollouts.
    """
    # The action of a step that only reset was never taken.
    log_ratios = jnp.where(batch.valid, scores - batch.behaviour_log_probabilities, 0.0)
    correct = jax.vmap(vtrace, in_axes=(1, 1, 1, 1, 1, *[None] * 4), out_axes=1)
    found: VTrace = correct(
        jax.lax.stop_gradient(values),
        batch.rewards,
        batch.terminated,
        batch.valid,
        jax.lax.stop_gradient(log_ratios),
        settings.discount,
        settings.gae_lambda,
        settings.vtrace_rho_clip,
        settings.vtrace_c_clip,
    )
    return found
