"""The actor-critic loss: policy gradient, value regression and entropy bonus.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3 and section 4. All means are over the valid
steps, so that a rollout with resets in it weighs its true steps alone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["LossTerms", "actor_critic_loss", "masked_mean"]


class LossTerms(NamedTuple):
    """The parts of an actor-critic loss, each a mean over the valid steps."""

    total: Float[Array, ""]
    policy: Float[Array, ""]
    value: Float[Array, ""]
    entropy: Float[Array, ""]


def masked_mean(terms: Float[Array, "*batch"], valid: Bool[Array, "*batch"]) -> Float[Array, ""]:
    """Mean of the valid terms; 0 if there are none."""
    weights = valid.astype(terms.dtype)
    return jnp.sum(terms * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def actor_critic_loss(
    log_probabilities: Float[Array, "*batch"],
    entropies: Float[Array, "*batch"],
    values: Float[Array, "*batch"],
    advantages: Float[Array, "*batch"],
    targets: Float[Array, "*batch"],
    valid: Bool[Array, "*batch"],
    value_coefficient: float,
    entropy_coefficient: float,
) -> LossTerms:
    r"""The loss whose negative gradient A3C ascends.

    .. math:: L = -\overline{\log\pi(a_t|s_t) A_t}
              + c_v \tfrac12 \overline{(G_t - V(s_t))^2} - c_e \overline{H(\pi(\cdot|s_t))}

    Mnih et al. 2016, section 4: the entropy is *added* to the objective, hence subtracted from the
    loss. ``advantages`` :math:`A` and ``targets`` :math:`G` are constants: no gradient flows into
    them.

    Args:
        log_probabilities: :math:`\log\pi(a_t|s_t)` of the actions taken, any shape.
        entropies: :math:`H(\pi(\cdot|s_t))`.
        values: :math:`V(s_t)`.
        advantages: :math:`A_t`.
        targets: :math:`G_t`, the returns that the values regress to.
        valid: false for the steps that only reset.
        value_coefficient: :math:`c_v`.
        entropy_coefficient: :math:`c_e`.
    """
    advantages = jax.lax.stop_gradient(advantages)
    targets = jax.lax.stop_gradient(targets)
    policy = -masked_mean(log_probabilities * advantages, valid)
    value = 0.5 * masked_mean(jnp.square(targets - values), valid)
    entropy = masked_mean(entropies, valid)
    total = policy + value_coefficient * value - entropy_coefficient * entropy
    return LossTerms(total, policy, value, entropy)
