"""The gradient of the actor-critic loss of one trajectory.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3, with the episode boundaries of `poise.maths`.
One forward pass over the T+1 observations serves policy, values and bootstrap alike.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from poise.agent.agent import Agent
from poise.maths.losses import LossTerms, actor_critic_loss
from poise.maths.returns import advantage_estimates, normalize
from poise.trajectory import Trajectory

__all__ = ["actor_critic_gradient", "unroll"]


def unroll(network: Any, observations: Any, state: Any, first: Any) -> tuple[Any, Any]:
    """Run a network along one copy's observations.

    A feed-forward network takes them all at once; a recurrent one in turn.

    Args:
        network: ``(observation, state, first) -> (parameters, value, state)``.
        observations: pytree of ``[T+1, ...]``.
        state: the recurrent state before the first observation.
        first: ``[T+1]`` bool, where episodes begin.

    Returns:
        Distribution parameters ``[T+1, ...]`` and values ``[T+1]``.
    """
    if not jax.tree.leaves(state):
        parameters, values, _ = jax.vmap(lambda one, begins: network(one, state, begins))(
            observations, first
        )
        return parameters, values

    def step(carry: Any, now: Any) -> tuple[Any, tuple[Any, Any]]:
        observation, begins = now
        parameters, value, carry = network(observation, carry, begins)
        return carry, (parameters, value)

    _, outputs = jax.lax.scan(step, state, (observations, first))
    return outputs


def actor_critic_gradient(
    agent: Agent,
    parameters: Float[Array, " P"],
    trajectory: Trajectory,
    *,
    discount: float,
    gae_lambda: float,
    normalize_advantages: bool,
    value_coefficient: float,
    entropy_coefficient: float,
) -> tuple[Float[Array, " P"], Float[Array, "5"]]:
    """Differentiate the loss with respect to the flat parameter vector.

    Args:
        agent: whose loss.
        parameters: where.
        trajectory: what happened, with observations as the network sees them (`Agent.observe`).
        discount: as in `advantage_estimates`.
        gae_lambda: as in `advantage_estimates`.
        normalize_advantages: whether to `normalize` them over the batch.
        value_coefficient: as in `actor_critic_loss`.
        entropy_coefficient: as in `actor_critic_loss`.

    Returns:
        The gradient ``[P]``, and ``[5]``: total, policy, value and entropy terms of the loss, and
        the gradient's global norm.
    """

    def loss(vector: Float[Array, " P"]) -> tuple[Float[Array, ""], LossTerms]:
        network = agent.network(vector)

        outputs, values = jax.vmap(
            lambda *copy: unroll(network, *copy), in_axes=(1, 0, 1), out_axes=1
        )(trajectory.observations, trajectory.initial_state, trajectory.first)
        constants = jax.lax.stop_gradient(values)
        estimate = jax.vmap(advantage_estimates, in_axes=(1, 1, 1, 1, None, None), out_axes=1)
        advantages = estimate(
            constants,
            trajectory.rewards,
            trajectory.terminated,
            trajectory.valid,
            discount,
            gae_lambda,
        )
        targets = advantages + constants[:-1]
        if normalize_advantages:
            advantages = normalize(advantages, trajectory.valid)
        acted = jax.tree.map(lambda leaf: leaf[:-1], outputs)
        score = jax.vmap(jax.vmap(agent.head.log_probability))
        terms = actor_critic_loss(
            score(acted, trajectory.actions),
            jax.vmap(jax.vmap(agent.head.entropy))(acted),
            values[:-1],
            advantages,
            targets,
            trajectory.valid,
            value_coefficient,
            entropy_coefficient,
        )
        return terms.total, terms

    gradient, terms = jax.grad(loss, has_aux=True)(parameters)
    norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
    # In JAX's 64 bits, whatever met a float64 on its way is one.
    return gradient.astype(jnp.float32), jnp.stack([*terms, norm]).astype(jnp.float32)
