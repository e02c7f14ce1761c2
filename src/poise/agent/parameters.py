"""Converting a network's parameters to one flat float32 vector and back.

Server, optimizer, shared memory and files all use the flat vector. Splitting it inside a compiled
function costs nothing.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

__all__ = ["ParameterLayout"]


@dataclasses.dataclass(frozen=True)
class ParameterLayout:
    """The order and the shapes of a pytree's arrays in the flat parameter vector.

    Attributes:
        names: path of each array in the tree.
        shapes: shape of each array.
        dtypes: dtype of each array in the tree; in the vector all are float32.
        treedef: structure of the tree.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    treedef: Any

    @classmethod
    def of(cls, parameters: Any) -> "ParameterLayout":
        """Return the layout of a pytree of arrays, or of their shapes and dtypes."""
        leaves, treedef = jax.tree_util.tree_flatten_with_path(parameters)
        return cls(
            names=tuple(jax.tree_util.keystr(path) for path, _ in leaves),
            shapes=tuple(tuple(leaf.shape) for _, leaf in leaves),
            dtypes=tuple(leaf.dtype for _, leaf in leaves),
            treedef=treedef,
        )

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    def flatten(self, parameters: Any) -> np.ndarray:
        """Join the arrays of a pytree into one ``[size]`` float32 vector (NumPy)."""
        leaves = [np.asarray(leaf, np.float32).reshape(-1) for leaf in jax.tree.leaves(parameters)]
        return np.concatenate(leaves) if leaves else np.zeros(0, np.float32)

    def unflatten(self, vector: Any) -> Any:
        """Rebuild the pytree from ``vector`` (NumPy or JAX)."""
        leaves, offset = [], 0
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            size = math.prod(shape)
            leaves.append(vector[offset : offset + size].reshape(shape).astype(dtype))
            offset += size
        return jax.tree.unflatten(self.treedef, leaves)

    def split(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Return the vector's arrays by name, in float32."""
        parts, offset = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = math.prod(shape)
            parts[name] = vector[offset : offset + size].reshape(shape)
            offset += size
        return parts
