"""Action distributions as functions of their parameters, on NumPy or JAX arrays.

The formulas are standard. Sampling uses *reparametrised noise*: a sample is a deterministic
function of parameters and noise, and zero noise gives the mode. Categorical sampling is the
Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030); Bernoulli sampling is the
same with logistic noise. The last axis is the distribution's; any leading axes are allowed.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise.maths.namespace import array_namespace

__all__ = [
    "bernoulli_entropy",
    "bernoulli_log_probability",
    "bernoulli_sample",
    "categorical_entropy",
    "categorical_log_probability",
    "categorical_sample",
    "gaussian_entropy",
    "gaussian_log_probability",
    "gaussian_sample",
    "log_softmax",
    "squashed_gaussian_entropy",
    "squashed_gaussian_log_probability",
]

_NODES = np.linspace(-6.0, 6.0, 65, dtype=np.float32)
_WEIGHTS = np.exp(-0.5 * np.square(_NODES))
_WEIGHTS = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)
"""The trapezoidal rule: an expectation over a standard normal variable is a weighted sum. Points as
dense as these also resolve log(1 - tanh^2) where the Gaussian is much wider than its bend."""
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def log_softmax(logits: Any) -> Any:
    r"""Log-probabilities :math:`x_i - \log \sum_j e^{x_j}`, over the last axis."""
    xp = array_namespace(logits)
    largest = xp.max(logits, axis=-1, keepdims=True)
    if xp is jnp:
        largest = jax.lax.stop_gradient(largest)
    shifted = logits - largest
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def categorical_sample(logits: Any, noise: Any) -> Any:
    r"""Sample :math:`\arg\max_i (x_i + g_i)`, with standard Gumbel noise :math:`g`.

    Args:
        logits: ``[..., n]`` unnormalised log-probabilities.
        noise: ``[..., n]`` standard Gumbel noise; zeros give the mode.

    Returns:
        ``[...]`` int32 indices.
    """
    scores = logits + noise
    if array_namespace(scores) is np:
        return np.argmax(scores, axis=-1).astype(np.int32)
    return _first_largest(scores)


def _first_largest(scores: Any) -> Any:
    """``jnp.argmax`` over the last axis, with a reduction function that JAX caches only once.

    For every program with an ``argmax``, JAX makes a new reduction function and keeps it in a
    cache. A process's memory would grow with every program that it compiles.
    """
    scores = jax.lax.stop_gradient(scores)
    last = scores.ndim - 1
    indices = jax.lax.broadcasted_iota(np.int32, scores.shape, last)
    start = (np.array(-np.inf, scores.dtype), np.array(0, np.int32))
    return jax.lax.reduce((scores, indices), start, _larger, (last,))[1]


def _larger(one: Any, other: Any) -> Any:
    """Return the larger of two (value, index) pairs.

    NaN counts as larger than any number; of equal values, the one with the smaller index wins.
    """
    (value, index), (kept, kept_index) = one, other
    is_larger = (value > kept) | (value != value)
    is_first = is_larger | ((value == kept) & (index < kept_index))
    select = jax.lax.select
    return select(is_larger, value, kept), select(is_first, index, kept_index)


def categorical_log_probability(logits: Any, index: Any) -> Any:
    """Log-probability of the category ``index [...]`` under ``logits [..., n]``."""
    xp = array_namespace(logits, index)
    categories = np.arange(logits.shape[-1], dtype=np.int32)
    categories = categories.reshape((1,) * (logits.ndim - 1) + (-1,))
    chosen = xp.expand_dims(index, -1) == categories
    return xp.sum(xp.where(chosen, log_softmax(logits), np.float32(0.0)), axis=-1)


def categorical_entropy(logits: Any) -> Any:
    r"""Entropy :math:`-\sum_i p_i \log p_i`, in nats, over the last axis."""
    xp = array_namespace(logits)
    logarithms = log_softmax(logits)
    return -xp.sum(xp.exp(logarithms) * logarithms, axis=-1)


def gaussian_sample(mean: Any, log_scale: Any, noise: Any) -> Any:
    r"""Sample :math:`\mu + \sigma \epsilon` with standard normal noise; zeros give the mode."""
    xp = array_namespace(mean)
    return mean + xp.exp(log_scale) * noise


def gaussian_log_probability(mean: Any, log_scale: Any, sample: Any) -> Any:
    r"""Log-density of a diagonal Gaussian, summed over the last axis.

    .. math:: \sum_i -\tfrac12 ((x_i - \mu_i)/\sigma_i)^2 - \log \sigma_i - \tfrac12 \log 2\pi
    """
    xp = array_namespace(mean, sample)
    standardised = (sample - mean) * xp.exp(-log_scale)
    return xp.sum(-0.5 * xp.square(standardised) - log_scale - HALF_LOG_TWO_PI, axis=-1)


def gaussian_entropy(log_scale: Any) -> Any:
    r"""Entropy of a diagonal Gaussian, :math:`\sum_i \log\sigma_i + \tfrac12(1 + \log 2\pi)`."""
    xp = array_namespace(log_scale)
    return xp.sum(log_scale + (0.5 + HALF_LOG_TWO_PI), axis=-1)


def squashed_gaussian_log_probability(mean: Any, log_scale: Any, sample: Any) -> Any:
    r"""Log-density of :math:`\tanh(x)`, with ``sample`` :math:`x` from a diagonal Gaussian.

    .. math:: \log p(x) - \sum_i \log(1 - \tanh^2 x_i)

    (Haarnoja et al. 2018, arXiv 1801.01290, equation 21.)
    """
    xp = array_namespace(mean, sample)
    plain = gaussian_log_probability(mean, log_scale, sample)
    return plain - xp.sum(_log_slope_of_tanh(sample), axis=-1)


def squashed_gaussian_entropy(mean: Any, log_scale: Any) -> Any:
    r"""Entropy of :math:`\tanh(x)`: :math:`H(x) + \sum_i E[\log(1 - \tanh^2 x_i)]`.

    The expectation has no closed form; it is computed by quadrature.
    """
    xp = array_namespace(mean, log_scale)
    nodes = _NODES.reshape(*[1] * mean.ndim, -1)
    points = mean[..., None] + xp.exp(log_scale)[..., None] * nodes
    expected = _log_slope_of_tanh(points) @ _WEIGHTS
    return gaussian_entropy(log_scale) + xp.sum(expected, axis=-1)


def _log_slope_of_tanh(x: Any) -> Any:
    r"""Return :math:`\log(1 - \tanh^2 x)`, also where :math:`\tanh x` is rounded to 1."""
    xp = array_namespace(x)
    doubled = np.float32(-2.0) * x
    softplus = xp.logaddexp(doubled, np.float32(0.0))
    return np.float32(2.0) * (np.float32(math.log(2.0)) - x - softplus)


def bernoulli_sample(logits: Any, noise: Any) -> Any:
    """Sample independent bits: 1 where logit + standard logistic noise is positive (int32)."""
    return (logits + noise > 0).astype(np.int32)


def bernoulli_log_probability(logits: Any, bits: Any) -> Any:
    r"""Log-probability of the bits, :math:`\sum_i b_i x_i - \log(1 + e^{x_i})`, last axis."""
    xp = array_namespace(logits, bits)
    chosen = xp.where(bits != 0, logits, np.float32(0.0))
    return xp.sum(chosen - xp.logaddexp(logits, np.float32(0.0)), axis=-1)


def bernoulli_entropy(logits: Any) -> Any:
    r"""Entropy of independent bits, in nats, summed over the last axis."""
    xp = array_namespace(logits)
    softplus = xp.logaddexp(logits, np.float32(0.0))
    return xp.sum(softplus - logits * xp.exp(logits - softplus), axis=-1)
