"""Running mean and variance, computed in batches that can be merged in any order.

Chan, Golub & LeVeque 1979 (Stanford STAN-CS-79-773), equations 1.5.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

from poise.maths.namespace import array_namespace

__all__ = ["Moments", "ShiftedMoments", "merge_moments", "moments_of", "normalization"]

VARIANCE_FLOOR = 1e-8


class Moments(NamedTuple):
    """Moments of a stream of vectors: their number, mean, and sum of squared deviations."""

    number: Float[Array | np.ndarray, ""]
    mean: Float[Array | np.ndarray, " S"]
    squares: Float[Array | np.ndarray, " S"]


class ShiftedMoments(NamedTuple):
    """Moments of vectors relative to a nearby reference, so that float32 is precise enough."""

    number: Float[Array | np.ndarray, ""]
    shift: Float[Array | np.ndarray, " S"]
    mean: Float[Array | np.ndarray, " S"]
    squares: Float[Array | np.ndarray, " S"]

    def absolute(self) -> Moments:
        """Return the moments of the vectors themselves, in float64 (NumPy)."""
        mean = np.asarray(self.shift, np.float64) + np.asarray(self.mean, np.float64)
        return Moments(np.asarray(self.number), mean, np.asarray(self.squares, np.float64))


def moments_of(
    rows: Float[Array | np.ndarray, "B S"], valid: Bool[Array | np.ndarray, " B"]
) -> ShiftedMoments:
    """Compute the moments of a batch's valid rows, in the rows' dtype, shifted by the first row."""
    xp = array_namespace(rows)
    weights = valid.astype(rows.dtype)
    count = xp.sum(weights)
    shift = rows[0]
    centred = rows - shift[None, :]
    mean = xp.sum(weights[:, None] * centred, axis=0) / xp.maximum(count, 1.0)
    squares = xp.sum(weights[:, None] * xp.square(centred - mean[None, :]), axis=0)
    return ShiftedMoments(count, shift, mean, squares)


def merge_moments(one: Moments, other: Moments) -> Moments:
    """Compute the moments of two streams together, in float64 (NumPy)."""
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
    """Return the mean and the float32 1 / standard deviation to normalise a stream with.

    The mean stays float64: large numbers close to it differ from it by less than float32 can
    resolve. Before the first vector, the result leaves values unchanged.
    """
    if moments.number < 1:
        shape = np.shape(moments.mean)
        return np.zeros(shape), np.ones(shape, np.float32)
    variance = np.asarray(moments.squares, np.float64) / np.float64(moments.number)
    scale = 1.0 / np.sqrt(np.maximum(variance, VARIANCE_FLOOR))
    return np.asarray(moments.mean, np.float64), scale.astype(np.float32)
