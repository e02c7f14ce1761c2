"""The actor-critic gradient of a trajectory, and functions that other losses share with it.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3, with the episode boundaries of `poise.maths`.
One forward pass over the T+1 observations gives the policy, the values and the bootstrap value.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from poise.agent.agent import Agent
from poise.maths.losses import LossTerms, ValueLoss, actor_critic_loss
from poise.maths.returns import advantage_estimates, normalize
from poise.trajectory import Trajectory

__all__ = ["actor_critic_gradient", "advantages_and_targets", "global_norm", "network_outputs"]


def network_outputs(agent: Agent, vector: Any, trajectory: Trajectory) -> tuple[Any, Any]:
    """Compute distribution parameters ``[T+1, N, P]`` and values ``[T+1, N]`` of a trajectory.

    Args:
        agent: the agent whose network is applied.
        vector: ``[P]``, the network's parameters.
        trajectory: trajectory with scaled observations (`Agent.observe`).
    """
    weights = agent.layout.unflatten(vector)

    def along_time(*copy: Any) -> tuple[Any, Any]:
        output = agent.network.unroll(weights, *copy)
        return output.dist_params, output.value

    return jax.vmap(along_time, in_axes=(1, 0, 1), out_axes=1)(
        trajectory.observations, trajectory.initial_state, trajectory.first
    )


def advantages_and_targets(
    values: Any, trajectory: Trajectory, discount: float, gae_lambda: float
) -> tuple[Any, Any]:
    """Compute advantages and returns, each ``[T, N]``, from values ``[T+1, N]``.

    See `advantage_estimates`. No gradient flows through either.
    """
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
    return advantages, advantages + constants[:-1]


def global_norm(gradient: Any) -> Any:
    """Return the Euclidean norm of a gradient ``[P]``."""
    return jnp.sqrt(jnp.sum(jnp.square(gradient)))


def actor_critic_gradient(
    agent: Agent,
    parameters: Float[Array, " P"],
    trajectory: Trajectory,
    *,
    discount: float,
    gae_lambda: float,
    normalize_advantages: bool,
    value_coefficient: float,
    entropy_coefficient: float | Float[Array, ""],
    value_loss: ValueLoss = "squared",
) -> tuple[Float[Array, " P"], Float[Array, "5"]]:
    """Differentiate the loss with respect to the flat parameter vector.

    Args:
        agent: the agent whose loss is differentiated.
        parameters: ``[P]``, where the gradient is taken.
        trajectory: trajectory with scaled observations (`Agent.observe`).
        discount: as in `advantage_estimates`.
        gae_lambda: as in `advantage_estimates`.
        normalize_advantages: whether to `normalize` the advantages over the batch.
        value_coefficient: as in `actor_critic_loss`.
        entropy_coefficient: as in `actor_critic_loss`.
        value_loss: the form of the values' loss.

    Returns:
        The gradient ``[P]``, and ``[5]``: total, policy, value and entropy terms of the loss, and
        the gradient's global norm.
    """

    def loss(vector: Float[Array, " P"]) -> tuple[Float[Array, ""], LossTerms]:
        outputs, values = network_outputs(agent, vector, trajectory)
        advantages, targets = advantages_and_targets(values, trajectory, discount, gae_lambda)
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
            value_loss,
        )
        return terms.total, terms

    gradient, terms = jax.grad(loss, has_aux=True)(parameters)
    norm = global_norm(gradient)
    # In JAX's 64-bit mode, combining with any float64 would make these float64 as well.
    return gradient.astype(jnp.float32), jnp.stack([*terms, norm]).astype(jnp.float32)
