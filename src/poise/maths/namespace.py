"""Formulas that run unchanged on NumPy and on JAX arrays.

The same idea as the Python array API standard's ``__array_namespace__``: a formula looks up the
array library of its arguments. NumPy is faster for a few small arrays, JAX in a compiled function.
"""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

__all__ = ["array_namespace", "row_product"]


def array_namespace(*arrays: Any) -> ModuleType:
    """Return ``numpy`` if every argument is a NumPy array or a scalar, else ``jax.numpy``."""
    for array in arrays:
        if not isinstance(array, np.ndarray | np.generic | float | int):
            return jnp
    return np


def row_product(x: Any, weight: Any) -> Any:
    """Return ``x @ weight`` for ``x`` of shape ``[..., n]`` and ``weight`` of shape ``[n, m]``.

    With NumPy, each row is multiplied on its own. In a product of two matrices, the number of rows
    and a row's place among them change how it is rounded, and then the score of an evaluation would
    depend on how many copies it is played in. It costs a few microseconds.
    """
    if isinstance(x, np.ndarray) and x.ndim > 1:
        return np.matmul(x[..., None, :], weight)[..., 0, :]
    return x @ weight
