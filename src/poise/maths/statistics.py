"""Running mean and variance, in batches that merge in any order.

Chan, Golub & LeVeque 1979 (Stanford STAN-CS-79-773), equations 1.5.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

__all__ = ["Moments", "merge_moments", "moments_of", "normalization"]

VARIANCE_FLOOR = 1e-8


class Moments(NamedTuple):
    """Of a stream of vectors: how many, their mean, and the sum of squared deviations."""

    number: Float[Array | np.ndarray, ""]
    mean: Float[Array | np.ndarray, "S"]
    squares: Float[Array | np.ndarray, "S"]


def moments_of(rows: Float[Array, "B S"], valid: Bool[Array, "B"]) -> Moments:
    """Moments of the valid rows of a batch."""
    weights = valid.astype(rows.dtype)
    count = jnp.sum(weights)
    mean = weights @ rows / jnp.maximum(count, 1.0)
    squares = weights @ jnp.square(rows - mean[None, :])
    return Moments(count, mean, squares)


def merge_moments(one: Moments, other: Moments) -> Moments:
    """Moments of both streams together, in float64 (NumPy)."""
    count = np.float64(one.number) + np.float64(other.number)
    if count == 0:
        return one
    mean_a, mean_b = np.asarray(one.mean, np.float64), np.asarray(other.mean, np.float64)
    delta = mean_b - mean_a
    share = np.float64(other.number) / count
    squares = np.asarray(one.squares, np.float64) + np.asarray(other.squares, np.float64)
    return Moments(
        np.asarray(count),
        mean_a + delta * share,
        squares + np.square(delta) * np.float64(one.number) * share,
    )


def normalization(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """The float32 (mean, 1 / standard deviation) that a stream is normalised with.

    Before anything was counted, it leaves values as they are.
    """
    if moments.number < 1:
        shape = np.shape(moments.mean)
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)
    variance = np.asarray(moments.squares, np.float64) / np.float64(moments.number)
    scale = 1.0 / np.sqrt(np.maximum(variance, VARIANCE_FLOOR))
    return np.asarray(moments.mean, np.float32), scale.astype(np.float32)
