"""Formulas that run unchanged on NumPy and on JAX arrays.

The same idea as the Python array API standard's ``__array_namespace__``: a formula looks up the
array library of its arguments. NumPy is faster for a few small arrays, JAX in a compiled function.
"""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

__all__ = ["array_namespace"]


def array_namespace(*arrays: Any) -> ModuleType:
    """Return ``numpy`` if every argument is a NumPy array or a scalar, else ``jax.numpy``."""
    for array in arrays:
        if not isinstance(array, np.ndarray | np.generic | float | int):
            return jnp
    return np
