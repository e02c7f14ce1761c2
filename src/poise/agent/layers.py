"""Layers and their initial weights.

Weights are made with NumPy, because compiling an initialiser would take longer than running it.
Without a generator only shapes are made, so that a network's parameters can be counted first.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from poise.maths.namespace import row_product

__all__ = ["ArrayLike", "Dense", "Outputs", "constants", "orthogonal", "zeros"]

ArrayLike = Any
"""A JAX array, a NumPy array, or only a shape (`jax.ShapeDtypeStruct`)."""


class Outputs(NamedTuple):
    """What a network outputs.

    Attributes:
        computed: number of distribution parameters that its last layer computes.
        free: number of distribution parameters that do not depend on the observation.
        first_free: their first value.
        critic: whether it outputs a value too; otherwise, it computes action values.
        features: units of the policy's last hidden layer that are among the distribution
            parameters; 0 or all of them.
    """

    computed: int
    free: int = 0
    first_free: float = 0.0
    critic: bool = True
    features: int = 0


class Dense(eqx.Module):
    """An affine layer ``x @ weight + bias``, with a weight of shape ``[inputs, outputs]``."""

    weight: Float[ArrayLike, "inputs outputs"]
    bias: Float[ArrayLike, " outputs"]

    def __call__(self, x: Any) -> Any:
        """Map ``[..., inputs]`` to ``[..., outputs]``."""
        return row_product(x, self.weight) + self.bias


def zeros(shape: tuple[int, ...], generator: np.random.Generator | None) -> Any:
    """Return float32 zeros or, without a generator, only their shape."""
    if generator is None:
        return jax.ShapeDtypeStruct(shape, np.dtype(np.float32))  # type: ignore[no-untyped-call]
    return np.zeros(shape, np.float32)


def constants(count: int, value: float, generator: np.random.Generator | None) -> Any:
    """Return ``[count]`` float32 constants or, without a generator, only their shape."""
    made = zeros((count,), generator)
    return made if generator is None else made + np.float32(value)


def orthogonal(
    generator: np.random.Generator | None, rows: int, columns: int, gain: float
) -> Dense:
    """Make a layer whose weight has orthonormal rows or columns, times ``gain``; its bias is 0."""
    if generator is None:
        return Dense(zeros((rows, columns), None), zeros((columns,), None))
    tall = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diagonal(r))
    weight = (q if rows >= columns else q.T) * gain
    return Dense(weight.astype(np.float32), np.zeros(columns, np.float32))
