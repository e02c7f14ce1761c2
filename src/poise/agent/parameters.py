"""A network's trainable arrays as one flat float32 vector, and back.

Parameters travel as one vector everywhere: server, optimizer, shared memory, files. Taking the
vector apart inside a compiled function costs nothing.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import numpy as np

__all__ = ["ParameterLayout"]


@dataclasses.dataclass(frozen=True)
class ParameterLayout:
    """Where each trainable array of a network lies in the vector.

    Attributes:
        names: path of each array in the network.
        shapes: its shape.
        dtypes: its dtype in the network; in the vector it is float32.
        treedef: structure of the trainable part.
        static: the rest of the network, which is not trained.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    treedef: Any
    static: Any

    @classmethod
    def of(cls, network: Any) -> "ParameterLayout":
        """The layout of a network: its inexact arrays in the order of the pytree."""
        trainable, static = eqx.partition(network, _is_trainable)
        leaves, treedef = jax.tree_util.tree_flatten_with_path(trainable)
        return cls(
            names=tuple(jax.tree_util.keystr(path) for path, _ in leaves),
            shapes=tuple(tuple(leaf.shape) for _, leaf in leaves),
            dtypes=tuple(leaf.dtype for _, leaf in leaves),
            treedef=treedef,
            static=static,
        )

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    def flatten(self, network: Any) -> np.ndarray:
        """The network's trainable arrays as ``[size]`` float32 (NumPy)."""
        trainable = eqx.filter(network, _is_trainable)
        leaves = [np.asarray(leaf, np.float32).reshape(-1) for leaf in jax.tree.leaves(trainable)]
        return np.concatenate(leaves) if leaves else np.zeros(0, np.float32)

    def unflatten(self, vector: Any) -> Any:
        """The network with its trainable arrays taken from ``vector`` (NumPy or JAX)."""
        leaves, offset = [], 0
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            size = math.prod(shape)
            leaves.append(vector[offset : offset + size].reshape(shape).astype(dtype))
            offset += size
        return eqx.combine(jax.tree.unflatten(self.treedef, leaves), self.static)


def _is_trainable(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | jax.Array) and bool(
        jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)
    )
