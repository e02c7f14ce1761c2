"""Returns and advantages of one trajectory: n-step returns, GAE and V-trace in one recursion.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3; Schulman et al. 2015 (arXiv 1506.02438),
equation 16; Espeholt et al. 2018 (arXiv 1802.01561), equation 1. Episode boundaries follow
Gymnasium's next-step autoreset: the step after an end only resets and is *invalid*.

In shapes, ``T1`` is T+1, the number of values, and ``T1-1`` is T, the number of steps (jaxtyping
takes an axis's size from the first argument that names it).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from poise.maths.namespace import array_namespace

__all__ = [
    "VTrace",
    "advantage_estimates",
    "corrected_errors",
    "normalize",
    "running_return",
    "vtrace",
]


def corrected_errors(
    values: Float[Array, " T1"],
    rewards: Float[Array, " T1-1"],
    discounts: Float[Array, " T1-1"],
    rhos: Float[Array, " T1-1"],
    cs: Float[Array, " T1-1"],
) -> Float[Array, " T1-1"]:
    r"""Accumulate temporal-difference errors backwards along one trajectory.

    .. math:: e_t = \rho_t (r_t + \gamma_t v_{t+1} - v_t) + \gamma_t c_t e_{t+1}, \quad e_T = 0

    ``v_t + e_t`` is the n-step return for :math:`\rho = c = 1`, the lambda-return of GAE for
    :math:`\rho = 1, c = \lambda`, and V-trace's target for clipped importance weights. A step with
    :math:`\rho_t = c_t = 0` has target ``v_t`` and stops the recursion: use this for invalid steps.

    Args:
        values: :math:`v_t`, the critic's values of the T+1 observations.
        rewards: :math:`r_t`, the reward of the step from t to t+1.
        discounts: :math:`\gamma_t`, 0 where step t terminated its episode.
        rhos: :math:`\rho_t`, weight of the temporal-difference error.
        cs: :math:`c_t`, weight of the following errors.

    Returns:
        :math:`e_t`, for each of the T steps.
    """
    deltas = rhos * (rewards + discounts * values[1:] - values[:-1])

    def backwards(
        following: Float[Array, ""], step: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        delta_t, decay_t = step
        error_t = delta_t + decay_t * following
        return error_t, error_t

    _, errors = jax.lax.scan(
        backwards, jnp.zeros((), deltas.dtype), (deltas, discounts * cs), reverse=True
    )
    return errors


def advantage_estimates(
    values: Float[Array, " T1"],
    rewards: Float[Array, " T1-1"],
    terminated: Bool[Array, " T1-1"],
    valid: Bool[Array, " T1-1"],
    discount: float,
    gae_lambda: float,
) -> Float[Array, " T1-1"]:
    r"""Generalised advantage estimates of one trajectory, which may span several episodes.

    .. math:: A_t = \sum_{l \ge 0} (\gamma\lambda)^l \delta_{t+l}, \quad
              \delta_t = r_t + \gamma v_{t+1} - v_t

    (Schulman et al. 2015, equation 16; ``gae_lambda`` 1 gives the n-step advantage of Mnih et al.
    2016.) The discount is 0 only where ``terminated``: a truncated step bootstraps from its true
    successor, and the invalid step that follows it contributes nothing.

    Args:
        values: the critic's values of the T+1 observations.
        rewards: the reward of each step.
        terminated: whether the step terminated its episode (truncation excluded).
        valid: false for the steps that only reset.
        discount: :math:`\gamma`, from 0 to 1.
        gae_lambda: :math:`\lambda`, from 0 to 1.

    Returns:
        :math:`A_t` for each of the T steps, 0 for invalid ones.
    """
    weights = valid.astype(values.dtype)
    discounts = discount * (1.0 - terminated.astype(values.dtype))
    return corrected_errors(values, rewards, discounts, weights, gae_lambda * weights)


class VTrace(NamedTuple):
    """The results of V-trace for the T steps of one trajectory."""

    advantages: Float[Array, " T"]
    """Advantages; they still need to be multiplied by the weights for a policy gradient."""
    targets: Float[Array, " T"]
    """Targets of the values; the value itself where a step is invalid."""
    weights: Float[Array, " T"]
    """Clipped importance weights; 0 where a step is invalid."""


def vtrace(
    values: Float[Array, " T1"],
    rewards: Float[Array, " T1-1"],
    terminated: Bool[Array, " T1-1"],
    valid: Bool[Array, " T1-1"],
    log_ratios: Float[Array, " T1-1"],
    discount: float,
    trace_lambda: float,
    rho_clip: float,
    c_clip: float,
) -> VTrace:
    r"""V-trace targets and advantages of one trajectory, which may span several episodes.

    .. math:: v_t = V_t + \sum_{k \ge t} \gamma^{k-t} \Big(\prod_{i=t}^{k-1} c_i\Big)
              \rho_k (r_k + \gamma V_{k+1} - V_k), \quad
              \rho_k = \min(\bar\rho, w_k), \quad c_i = \lambda \min(\bar c, w_i)

    with the ratios :math:`w_t = \pi(a_t|s_t) / \mu(a_t|s_t)` (Espeholt et al. 2018, equation 1
    and Remark 2); advantages :math:`r_t + \gamma v_{t+1} - V_t` (section 4.2). Episode boundaries
    are as in `advantage_estimates`.

    Args:
        values: the critic's values of the T+1 observations.
        rewards: the reward of each step.
        terminated: whether the step terminated its episode (truncation excluded).
        valid: false for the steps that only reset.
        log_ratios: :math:`\log w_t`; any finite number for invalid steps.
        discount: :math:`\gamma`, from 0 to 1.
        trace_lambda: :math:`\lambda`, from 0 to 1; 1 in the paper's experiments.
        rho_clip: :math:`\bar\rho`.
        c_clip: :math:`\bar c`.
    """
    exists = valid.astype(values.dtype)
    # Clipped before the exponential, which could overflow.
    weights = exists * jnp.exp(jnp.minimum(log_ratios, jnp.log(rho_clip)))
    cs = exists * trace_lambda * jnp.exp(jnp.minimum(log_ratios, jnp.log(c_clip)))
    discounts = discount * (1.0 - terminated.astype(values.dtype))
    errors = corrected_errors(values, rewards, discounts, weights, cs)
    targets = values[:-1] + errors
    following = jnp.concatenate([targets[1:], values[-1:]])
    advantages = exists * (rewards + discounts * following - values[:-1])
    return VTrace(advantages, targets, weights)


def normalize(
    advantages: Float[Array, "*batch"], valid: Bool[Array, "*batch"], epsilon: float = 1e-8
) -> Float[Array, "*batch"]:
    """Shift and scale advantages to mean 0 and variance 1 over the valid steps.

    Args:
        advantages: any shape.
        valid: which advantages count; the others are returned as 0.
        epsilon: added to the variance, so that equal advantages become 0 instead of NaN.
    """
    weights = valid.astype(advantages.dtype)
    count = jnp.maximum(jnp.sum(weights), 1.0)
    mean = jnp.sum(advantages * weights) / count
    centred = (advantages - mean) * weights
    variance = jnp.sum(jnp.square(centred)) / count
    return centred * jax.lax.rsqrt(variance + epsilon)


def running_return(
    before: Float[Array | np.ndarray, " N"],
    rewards: Float[Array | np.ndarray, " N"],
    first: Bool[Array | np.ndarray, " N"],
    discount: float | np.floating,
) -> Float[Array | np.ndarray, " N"]:
    r"""Discounted return of each copy's episode up to a step, summed forwards.

    .. math:: R_t = \gamma R_{t-1} + r_t, \quad R_{-1} = 0

    OpenAI Baselines' VecNormalize divides rewards by the standard deviation of this return.

    Args:
        before: :math:`R_{t-1}`.
        rewards: :math:`r_t`.
        first: whether the step is the first of its episode.
        discount: :math:`\gamma`, from 0 to 1.
    """
    xp = array_namespace(before, rewards)
    carried: Float[Array | np.ndarray, " N"] = xp.where(first, np.float32(0), discount * before)
    return carried + rewards
