"""A network's parameters as one flat float32 vector, and back.

They travel as one vector everywhere: server, optimizer, shared memory, files. Taking the vector
apart inside a compiled function costs nothing.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

__all__ = ["ParameterLayout"]


@dataclasses.dataclass(frozen=True)
class ParameterLayout:
    """Where each array of a pytree of parameters lies in the vector.

    Attributes:
        names: path of each array in the tree.
        shapes: its shape.
        dtypes: its dtype in the tree; in the vector it is float32.
        treedef: structure of the tree.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    treedef: Any

    @classmethod
    def of(cls, parameters: Any) -> "ParameterLayout":
        """The layout of a pytree of arrays, or of their shapes and dtypes."""
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
        """The arrays of a pytree as ``[size]`` float32 (NumPy)."""
        leaves = [np.asarray(leaf, np.float32).reshape(-1) for leaf in jax.tree.leaves(parameters)]
        return np.concatenate(leaves) if leaves else np.zeros(0, np.float32)

    def unflatten(self, vector: Any) -> Any:
        """The pytree with its arrays taken from ``vector`` (NumPy or JAX)."""
        leaves, offset = [], 0
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            size = math.prod(shape)
            leaves.append(vector[offset : offset + size].reshape(shape).astype(dtype))
            offset += size
        return jax.tree.unflatten(self.treedef, leaves)

    def split(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of a vector by their names, in float32."""
        parts, offset = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = math.prod(shape)
            parts[name] = vector[offset : offset + size].reshape(shape)
            offset += size
        return parts
