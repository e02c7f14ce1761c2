"""PPO: proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347), clipped surrogate.

Workers send their rollouts. When all have arrived, they form one batch, which is used for several
epochs (section 5, Algorithm 1); each epoch draws new minibatches.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from poise.agent.agent import Agent
from poise.agent.gradient import advantages_and_targets, global_norm, network_outputs
from poise.config import Schedule
from poise.learning.algorithms.actor_critic import ActorCriticSettings
from poise.learning.algorithms.rollout_payload import RolloutPayload
from poise.learning.discipline import DisciplineName
from poise.learning.optimizer import OptimizerState, Update
from poise.maths.losses import SurrogateTerms, clipped_surrogate_loss
from poise.maths.returns import normalize
from poise.trajectory import Trajectory

__all__ = ["PPO"]


class _Samples(NamedTuple):
    """The data that minibatches are drawn from.

    The leading axis is samples: single steps or, with a recurrent network, whole sequences, whose
    second axis is time.
    """

    observations: Any
    first: Any
    initial_state: Any
    actions: Any
    log_probabilities: Any
    old_values: Any
    advantages: Any
    targets: Any
    valid: Any


class _Weights(NamedTuple):
    """The settings of the loss that may be annealed, as they are for a batch."""

    clip_range: Any
    entropy: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPO(RolloutPayload, ActorCriticSettings):
    """PPO with its settings, which are described in `TrainConfig`."""

    clip_range: float
    epochs: int
    minibatches: int
    recompute_advantages: bool
    clip_range_schedule: Schedule = "constant"
    value_clip_range: float | None = None

    name: ClassVar[str] = "ppo"
    discipline: ClassVar[DisciplineName] = "synchronous"
    metrics: ClassVar[tuple[str, ...]] = (
        *("loss", "policy_loss", "value_loss", "entropy"),
        *("clip_fraction", "approximate_kl", "gradient_norm"),
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
        """See `LearnsFromTrajectories.learn`; the metrics are means over all minibatches."""
        first = self._samples(agent, parameters, batch)
        count = jax.tree.leaves(first.advantages)[0].shape[0]
        number = min(self.minibatches, count)
        size = count // number
        weights = _Weights(
            self.annealed(self.clip_range, self.clip_range_schedule, batch.version),
            self.entropy_weight(batch.version),
        )

        def learn_minibatch(samples: _Samples, carry: Any, chosen: Any) -> tuple[Any, Any]:
            parameters, optimizer_state = carry
            minibatch = jax.tree.map(lambda leaf: leaf[chosen], samples)
            gradient, terms = jax.grad(self._loss, 1, has_aux=True)(
                agent, parameters, minibatch, weights
            )
            norm = global_norm(gradient)
            carry = update(parameters, optimizer_state, gradient, norm, learning_rate)
            return carry, jnp.stack([*terms, norm])

        def learn_epoch(carry: Any, key: Any) -> tuple[Any, Any]:
            # If the minibatches do not divide the samples evenly, for example after a worker was
            # lost, each epoch leaves out different samples.
            order = jax.random.permutation(key, count)[: number * size]
            samples = first
            if self.recompute_advantages:
                samples = self._samples(agent, carry[0], batch)
                samples = samples._replace(old_values=first.old_values)
            learn_one = functools.partial(learn_minibatch, samples)
            return jax.lax.scan(learn_one, carry, order.reshape(number, size))

        carry = parameters, optimizer_state
        carry, metrics = jax.lax.scan(learn_epoch, carry, jax.random.split(key, self.epochs))
        parameters, optimizer_state = carry
        return parameters, optimizer_state, metrics.mean(axis=(0, 1)).astype(jnp.float32)

    def estimate(self, agent: Agent, parameters: Any, batch: Trajectory) -> tuple[Any, Any, Any]:
        """Estimate values, advantages and targets of the values, each ``[T, N]``."""
        _, values = network_outputs(agent, parameters, batch)
        return values[:-1], *advantages_and_targets(values, batch, self.discount, self.gae_lambda)

    def _samples(self, agent: Agent, parameters: Any, batch: Trajectory) -> _Samples:
        """Split a batch into steps or, for a recurrent network, into one sequence per copy."""
        values, advantages, targets = self.estimate(agent, parameters, batch)
        samples = _Samples(
            observations=jax.tree.map(lambda leaf: leaf[:-1], batch.observations),
            first=batch.first[:-1],
            initial_state=batch.initial_state,
            actions=batch.actions,
            log_probabilities=batch.behaviour_log_probabilities,
            old_values=values if self.value_clip_range is not None else (),
            advantages=advantages,
            targets=targets,
            valid=batch.valid,
        )
        if jax.tree.leaves(batch.initial_state):
            sequences: _Samples = jax.tree.map(
                lambda leaf: jnp.swapaxes(leaf, 0, 1), samples._replace(initial_state=())
            )
            return sequences._replace(initial_state=batch.initial_state)
        steps: _Samples = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), samples)
        return steps

    def _loss(
        self, agent: Agent, parameters: Any, samples: _Samples, settings: _Weights
    ) -> tuple[Any, SurrogateTerms]:
        network, weights = agent.network, agent.layout.unflatten(parameters)
        has_memory = bool(jax.tree.leaves(samples.initial_state))
        run = network.unroll if has_memory else network.apply
        state_axis = 0 if has_memory else None
        output = jax.vmap(
            lambda observation, state, first: run(weights, observation, state, first)[:2],
            in_axes=(0, state_axis, 0),
        )(samples.observations, samples.initial_state, samples.first)
        dist_params, values = output
        advantages = samples.advantages
        if self.normalize_advantages:
            advantages = normalize(advantages, samples.valid)
        terms = clipped_surrogate_loss(
            agent.head.log_probability(dist_params, samples.actions),
            samples.log_probabilities,
            agent.head.entropy(dist_params),
            values,
            advantages,
            samples.targets,
            samples.valid,
            settings.clip_range,
            self.value_coefficient,
            settings.entropy,
            self.value_loss,
            *((samples.old_values, self.value_clip_range) if self.value_clip_range else ()),
        )
        return terms.total, terms
