"""Losses: policy gradient or clipped surrogate, value regression and entropy bonus.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3 and section 4; Schulman et al. 2017 (arXiv
1707.06347), equations 7 and 9. All means are over the valid steps, so that steps that only reset an
environment have no effect.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = [
    "LossTerms",
    "SurrogateTerms",
    "ValueLoss",
    "actor_critic_loss",
    "clipped_surrogate_loss",
    "masked_mean",
    "value_loss",
]

ValueLoss = Literal["squared", "huber"]


class LossTerms(NamedTuple):
    """The parts of an actor-critic loss, each a mean over the valid steps."""

    total: Float[Array, ""]
    policy: Float[Array, ""]
    value: Float[Array, ""]
    entropy: Float[Array, ""]


class SurrogateTerms(NamedTuple):
    """The parts of PPO's loss, and the distance of the policy from the one that acted."""

    total: Float[Array, ""]
    policy: Float[Array, ""]
    value: Float[Array, ""]
    entropy: Float[Array, ""]
    clip_fraction: Float[Array, ""]
    """Fraction of the steps whose probability ratio is outside the clip range."""
    approximate_kl: Float[Array, ""]
    """Unbiased estimate of the KL divergence of the policy from the one that acted (mean of
    ratio - 1 - log ratio; Schulman 2020, "Approximating KL Divergence")."""


def masked_mean(terms: Float[Array, "*batch"], valid: Bool[Array, "*batch"]) -> Float[Array, ""]:
    """Mean of the valid terms; 0 if there are none."""
    weights = valid.astype(terms.dtype)
    return jnp.sum(terms * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def value_loss(
    values: Float[Array, "*batch"],
    targets: Float[Array, "*batch"],
    valid: Bool[Array, "*batch"],
    kind: ValueLoss = "squared",
    old_values: Float[Array, "*batch"] | None = None,
    clip_range: float = math.inf,
) -> Float[Array, ""]:
    r"""The loss of the values: a mean over the valid steps of a function of :math:`G_t - V(s_t)`.

    With a clip range, a value that moves further than that from the one before the batch is
    learned counts as clipped there, if that makes the loss larger (OpenAI Baselines' PPO2; Engstrom
    et al. 2020, arXiv 2005.12729, section 3).

    Args:
        values: :math:`V(s_t)`, any shape.
        targets: :math:`G_t`; constants.
        valid: false for the steps that only reset.
        kind: ``squared``, half of the squared error, or ``huber``, which is the same up to an error
            of 1, and grows linearly from there on (Huber 1964).
        old_values: the values before the batch is learned; None if nothing is clipped.
        clip_range: how far values may move, in the unit of returns.
    """
    targets = jax.lax.stop_gradient(targets)

    def of(values: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        error = targets - values
        squared = 0.5 * jnp.square(error)
        if kind == "squared":
            return squared
        size = jnp.abs(error)
        return jnp.where(size <= 1.0, squared, size - 0.5)

    terms = of(values)
    if old_values is not None:
        old_values = jax.lax.stop_gradient(old_values)
        clipped = old_values + jnp.clip(values - old_values, -clip_range, clip_range)
        terms = jnp.maximum(terms, of(clipped))
    return masked_mean(terms, valid)


def actor_critic_loss(
    log_probabilities: Float[Array, "*batch"],
    entropies: Float[Array, "*batch"],
    values: Float[Array, "*batch"],
    advantages: Float[Array, "*batch"],
    targets: Float[Array, "*batch"],
    valid: Bool[Array, "*batch"],
    value_coefficient: float,
    entropy_coefficient: float | Float[Array, ""],
    value_kind: ValueLoss = "squared",
) -> LossTerms:
    r"""The actor-critic loss, which A3C minimises.

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
        targets: :math:`G_t`, the regression targets of the values.
        valid: false for the steps that only reset.
        value_coefficient: :math:`c_v`.
        entropy_coefficient: :math:`c_e`.
        value_kind: the second term's form (see `value_loss`).
    """
    advantages = jax.lax.stop_gradient(advantages)
    policy = -masked_mean(log_probabilities * advantages, valid)
    value = value_loss(values, targets, valid, value_kind)
    entropy = masked_mean(entropies, valid)
    return LossTerms(
        policy + value_coefficient * value - entropy_coefficient * entropy, policy, value, entropy
    )


def clipped_surrogate_loss(
    log_probabilities: Float[Array, "*batch"],
    behaviour_log_probabilities: Float[Array, "*batch"],
    entropies: Float[Array, "*batch"],
    values: Float[Array, "*batch"],
    advantages: Float[Array, "*batch"],
    targets: Float[Array, "*batch"],
    valid: Bool[Array, "*batch"],
    clip_range: float | Float[Array, ""],
    value_coefficient: float,
    entropy_coefficient: float | Float[Array, ""],
    value_kind: ValueLoss = "squared",
    old_values: Float[Array, "*batch"] | None = None,
    value_clip_range: float = math.inf,
) -> SurrogateTerms:
    r"""PPO's loss.

    .. math:: L = -\overline{\min(r_t A_t, \mathrm{clip}(r_t, 1-\epsilon, 1+\epsilon) A_t)}
              + c_v \tfrac12 \overline{(G_t - V(s_t))^2} - c_e \overline{H(\pi(\cdot|s_t))}

    with the ratio :math:`r_t = \pi(a_t|s_t) / \pi_\mathrm{acted}(a_t|s_t)` (Schulman et al. 2017,
    equations 7 and 9; the value's factor of a half is ours, as in `actor_critic_loss`).

    Args:
        log_probabilities: :math:`\log\pi(a_t|s_t)` of the actions taken, any shape.
        behaviour_log_probabilities: the same, for the policy that acted.
        entropies: :math:`H(\pi(\cdot|s_t))`.
        values: :math:`V(s_t)`.
        advantages: :math:`A_t`; constants.
        targets: :math:`G_t`, the regression targets of the values; constants.
        valid: false for the steps that only reset.
        clip_range: :math:`\epsilon`.
        value_coefficient: :math:`c_v`.
        entropy_coefficient: :math:`c_e`.
        value_kind: the second term's form (see `value_loss`).
        old_values: the values before the batch is learned; None if they are not clipped.
        value_clip_range: how far values may move.
    """
    advantages = jax.lax.stop_gradient(advantages)
    # An invalid step's action was never taken; its ratio is meaningless and must not overflow.
    log_ratio = jnp.where(valid, log_probabilities - behaviour_log_probabilities, 0.0)
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range)
    policy = -masked_mean(jnp.minimum(ratio * advantages, clipped * advantages), valid)
    value = value_loss(values, targets, valid, value_kind, old_values, value_clip_range)
    entropy = masked_mean(entropies, valid)
    beyond = (jnp.abs(ratio - 1.0) > clip_range).astype(ratio.dtype)
    return SurrogateTerms(
        policy + value_coefficient * value - entropy_coefficient * entropy,
        policy,
        value,
        entropy,
        clip_fraction=masked_mean(beyond, valid),
        approximate_kl=masked_mean(ratio - 1.0 - log_ratio, valid),
    )
