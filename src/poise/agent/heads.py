"""Action heads: distributions over the actions of a space.

A head defines how many network outputs it needs, how to sample actions and compute their
log-probability and entropy, and how to convert a sampled action for the environment. Actions are
stored as sampled; only `to_environment` shifts, scales or clips them. All methods work on NumPy and
on JAX arrays, with any leading axes.

A distribution's parameters (``dist_params``) are one array ``[..., outputs + free_params]``: first
the parameters that the network computes from the observation, then those that do not depend on it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import numpy as np

from poise.agent.noise import GUMBEL, LOGISTIC, NORMAL, Noise
from poise.maths import distributions
from poise.maths.namespace import array_namespace

__all__ = [
    "UNBOUNDED",
    "ActionHead",
    "GaussianScale",
    "dtype_on",
]

LOG_SCALE_BOUNDS = np.float32(-10.0), np.float32(5.0)
"""Bounds on the logarithm of a Gaussian's standard deviation. A network's scale may diverge during
training, and the square of a sample that many deviations away would overflow float32."""

UNBOUNDED = 1e15
"""A bound of at least this magnitude counts as no bound, like infinity or a dtype's largest number:
a Gaussian of scale 1 could not be stretched to cover it."""

SMALLEST_VARIANCE = np.float32(1e-6)
"""Added to a state-dependent variance, which would be 0 where all features are."""

GaussianScale = Literal["free", "network", "gsde"]


@runtime_checkable
class ActionHead(Protocol):
    """A distribution over the actions of one space."""

    @property
    def outputs(self) -> int:
        """Number of parameters that the network computes from the observation."""

    @property
    def free_params(self) -> int:
        """Number of trainable parameters that do not depend on the observation."""

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> Any:
        """Draw the noise that `sample` needs for a batch of actions."""

    def sample(self, dist_params: Any, noise: Any | None) -> Any:
        """Sample an action; without noise, return the most probable one."""

    def log_probability(self, dist_params: Any, action: Any) -> Any:
        """Return the log-probability (or log-density) of a stored action."""

    def entropy(self, dist_params: Any) -> Any:
        """Return the entropy in nats."""

    def to_environment(self, action: Any) -> Any:
        """Convert a stored action for the environment."""


@dataclasses.dataclass(frozen=True)
class CategoricalHead:
    """Head for `Discrete` spaces: one of n categories, which the space numbers from ``start``."""

    categories: int
    start: int

    @property
    def outputs(self) -> int:
        return self.categories

    @property
    def free_params(self) -> int:
        return 0

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> Any:
        return draw(GUMBEL, (*batch, self.categories))

    def sample(self, dist_params: Any, noise: Any | None) -> Any:
        if noise is None:
            noise = np.float32(0.0)
        return distributions.categorical_sample(dist_params, noise)

    def log_probability(self, dist_params: Any, action: Any) -> Any:
        return distributions.categorical_log_probability(dist_params, action)

    def entropy(self, dist_params: Any) -> Any:
        return distributions.categorical_entropy(dist_params)

    def to_environment(self, action: Any) -> Any:
        return action + self.start if self.start else action


@dataclasses.dataclass(frozen=True)
class GaussianHead:
    """Head for `Box` spaces of floats: an independent Gaussian for each number.

    Finite bounds correspond to actions -1 and 1: the environment receives
    ``clip(middle + half_width * action, low, high)``. A squashed action is passed through tanh
    first, and so lies within the bounds anyway; without noise, it is the median.
    """

    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str
    scale: GaussianScale
    squashes: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def outputs(self) -> int:
        return self.size * (2 if self.scale == "network" else 1)

    @property
    def free_params(self) -> int:
        return self.size if self.scale == "free" else 0

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> Any:
        return draw(NORMAL, (*batch, self.size))

    def sample(self, dist_params: Any, noise: Any | None) -> Any:
        mean, log_scale = self._split(dist_params)
        if noise is None:
            return mean
        return distributions.gaussian_sample(mean, log_scale, noise)

    def log_probability(self, dist_params: Any, action: Any) -> Any:
        parts = self._split(dist_params)
        if self.squashes:
            return distributions.squashed_gaussian_log_probability(*parts, action)
        return distributions.gaussian_log_probability(*parts, action)

    def entropy(self, dist_params: Any) -> Any:
        mean, log_scale = self._split(dist_params)
        if self.squashes:
            return distributions.squashed_gaussian_entropy(mean, log_scale)
        return distributions.gaussian_entropy(log_scale)

    def to_environment(self, action: Any) -> Any:
        xp = array_namespace(action)
        if self.squashes:
            action = xp.tanh(action)
        dtype = dtype_on(xp, self.dtype)
        low, high = np.asarray(self.low), np.asarray(self.high)
        bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)
        # Infinite bounds are replaced first: their difference is NaN.
        bottom, top = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        middle, half_width = bottom / 2 + top / 2, top / 2 - bottom / 2
        shape = (1,) * (action.ndim - 1) + (-1,)
        middle, half_width = middle.astype(dtype).reshape(shape), half_width.astype(dtype)
        scaled = middle + half_width.reshape(shape) * action.astype(dtype)
        # Clipped last and in the space's own dtype: rounding must not exceed the bounds.
        bottom, top = _inward(low, np.inf, dtype), _inward(high, -np.inf, dtype)
        flat = xp.clip(scaled, bottom.reshape(shape), top.reshape(shape))
        return flat.reshape(action.shape[:-1] + self.shape)

    def _split(self, dist_params: Any) -> tuple[Any, Any]:
        xp = array_namespace(dist_params)
        log_scale = xp.clip(dist_params[..., self.size :], *LOG_SCALE_BOUNDS)
        return dist_params[..., : self.size], log_scale


@dataclasses.dataclass(frozen=True)
class GsdeHead(GaussianHead):
    r"""Gaussian whose noise is a random linear function of the policy's features (gSDE).

    Raffin et al. 2021, arXiv 2005.05719, section 3: with features :math:`z(s)` and a matrix
    :math:`\epsilon_{ij} \sim N(0, \sigma_{ij}^2)`, the action is :math:`\mu(s) + \epsilon^T z(s)`,
    whose variance is :math:`\sum_i z_i^2 \sigma_{ij}^2`. The matrix is drawn once for each copy and
    rollout, so that exploration is smooth in time.

    The network's outputs are the means and the features, through which no gradient of the noise
    flows.
    """

    features: int = 0

    @property
    def outputs(self) -> int:
        return self.size + self.features

    @property
    def free_params(self) -> int:
        return self.features * self.size

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> Any:
        """Draw a matrix ``[features, size]`` for each copy of a rollout's batch ``(T, N)``.

        For other batches, one is drawn for each action.
        """
        matrix = self.features, self.size
        if len(batch) != 2:
            return draw(NORMAL, (*batch, *matrix))
        length, copies = batch
        drawn = draw(NORMAL, (copies, *matrix))
        return array_namespace(drawn).broadcast_to(drawn, (length, *drawn.shape))

    def sample(self, dist_params: Any, noise: Any | None) -> Any:
        if noise is None:
            return dist_params[..., : self.size]
        xp = array_namespace(dist_params)
        scales, features = self._scales_and_features(dist_params)
        change = xp.sum(features[..., None] * xp.exp(scales) * noise, axis=-2)
        return dist_params[..., : self.size] + change

    def _split(self, dist_params: Any) -> tuple[Any, Any]:
        xp = array_namespace(dist_params)
        scales, features = self._scales_and_features(dist_params)
        terms = xp.square(features)[..., None] * xp.exp(np.float32(2.0) * scales)
        variance = xp.sum(terms, axis=-2) + SMALLEST_VARIANCE
        return dist_params[..., : self.size], np.float32(0.5) * xp.log(variance)

    def _scales_and_features(self, dist_params: Any) -> tuple[Any, Any]:
        """Return logarithms of the scales ``[..., features, size]``, and features."""
        xp = array_namespace(dist_params)
        features = dist_params[..., self.size : self.outputs]
        if xp is not np:
            features = jax.lax.stop_gradient(features)
        scales = xp.clip(dist_params[..., self.outputs :], *LOG_SCALE_BOUNDS)
        return scales.reshape(*scales.shape[:-1], self.features, self.size), features


@dataclasses.dataclass(frozen=True)
class BernoulliHead:
    """Head for `MultiBinary` spaces: independent bits."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def outputs(self) -> int:
        return self.size

    @property
    def free_params(self) -> int:
        return 0

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> Any:
        return draw(LOGISTIC, (*batch, self.size))

    def sample(self, dist_params: Any, noise: Any | None) -> Any:
        if noise is None:
            noise = np.float32(0.0)
        return distributions.bernoulli_sample(dist_params, noise)

    def log_probability(self, dist_params: Any, action: Any) -> Any:
        return distributions.bernoulli_log_probability(dist_params, action)

    def entropy(self, dist_params: Any) -> Any:
        return distributions.bernoulli_entropy(dist_params)

    def to_environment(self, action: Any) -> Any:
        return action.reshape(action.shape[:-1] + self.shape).astype(np.int8)


@dataclasses.dataclass(frozen=True)
class JointHead:
    """Head for `MultiDiscrete`, `Tuple` and `Dict` spaces and a Box of integers.

    Its components are independent. ``combine`` joins their environment actions into one action of
    the space.
    """

    heads: tuple[ActionHead, ...]
    combine: Callable[[list[Any]], Any]

    @property
    def outputs(self) -> int:
        return sum(head.outputs for head in self.heads)

    @property
    def free_params(self) -> int:
        return sum(head.free_params for head in self.heads)

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> Any:
        return tuple(head.noise(draw, batch) for head in self.heads)

    def sample(self, dist_params: Any, noise: Any | None) -> Any:
        noises = noise if noise is not None else (None,) * len(self.heads)
        parts = zip(self.heads, self._split(dist_params), noises, strict=True)
        return tuple(head.sample(part, noise) for head, part, noise in parts)

    def log_probability(self, dist_params: Any, action: Any) -> Any:
        parts = zip(self.heads, self._split(dist_params), action, strict=True)
        return sum(head.log_probability(part, one) for head, part, one in parts)

    def entropy(self, dist_params: Any) -> Any:
        parts = zip(self.heads, self._split(dist_params), strict=True)
        return sum(head.entropy(part) for head, part in parts)

    def to_environment(self, action: Any) -> Any:
        pairs = zip(self.heads, action, strict=True)
        return self.combine([head.to_environment(one) for head, one in pairs])

    def _split(self, dist_params: Any) -> list[Any]:
        xp = array_namespace(dist_params)
        parts, output, free = [], 0, self.outputs
        for head in self.heads:
            computed = dist_params[..., output : output + head.outputs]
            own = dist_params[..., free : free + head.free_params]
            parts.append(xp.concatenate([computed, own], axis=-1) if head.free_params else computed)
            output += head.outputs
            free += head.free_params
        return parts


def _inward(bounds: np.ndarray, inside: float, dtype: Any) -> np.ndarray:
    """Convert bounds to another dtype, rounded towards the inside of the box."""
    rounded = bounds.astype(dtype)
    outside = rounded < bounds if inside > 0 else rounded > bounds
    return np.where(outside, np.nextafter(rounded, dtype.type(inside)), rounded)


def dtype_on(xp: Any, dtype: Any) -> Any:
    """Return an array module's version of a dtype: JAX uses 32 bits where NumPy uses 64."""
    return np.dtype(dtype) if xp is np else jax.dtypes.canonicalize_dtype(dtype)
