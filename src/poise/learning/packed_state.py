"""A worker's state in few arrays, because each array of a call into XLA takes microseconds."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["PackedState", "StatePacking"]

LARGE = 4096
"""Larger arrays are not packed: copying them would take longer than passing them."""


class StatePacking:
    """Packs pytrees of arrays with the same structure, shapes and dtypes; on NumPy or in XLA.

    Small arrays become one: ``[M]`` int32, their bits one after the other. The others are a list.

    Args:
        like: one of the pytrees.
    """

    def __init__(self, like: Any) -> None:
        leaves, self.structure = jax.tree.flatten(like)
        self._shapes = [(leaf.shape, np.dtype(leaf.dtype)) for leaf in map(np.asarray, leaves)]
        self._is_small = [
            math.prod(shape) <= LARGE and (dtype == np.bool_ or dtype.itemsize == 4)
            for shape, dtype in self._shapes
        ]

    def pack(self, state: Any) -> tuple[Any, list[Any]]:
        """Return the bits of the small arrays, and the large arrays."""
        leaves = list(zip(jax.tree.leaves(state), self._is_small, strict=True))
        small = [_to_bits(leaf).reshape(-1) for leaf, is_small in leaves if is_small]
        large = [leaf for leaf, is_small in leaves if not is_small]
        xp = jnp if any(isinstance(leaf, jax.Array) for leaf in small) else np
        return xp.concatenate(small) if small else np.zeros(0, np.int32), large

    def unpack(self, numbers: Any, large: list[Any]) -> Any:
        """Return the pytree that was packed."""
        rest, begin, leaves = iter(large), 0, []
        for (shape, dtype), is_small in zip(self._shapes, self._is_small, strict=True):
            if is_small:
                end = begin + math.prod(shape)
                leaves.append(_from_bits(numbers[begin:end], dtype).reshape(shape))
                begin = end
            else:
                leaves.append(next(rest))
        return jax.tree.unflatten(self.structure, leaves)


@jax.tree_util.register_pytree_node_class
class PackedState:
    """A packed state, outside XLA. As a pytree it has the arrays of the state that was packed.

    So checkpoints and mailboxes hold what the state consists of, and do not know of the packing.

    Args:
        packing: how it is packed.
        numbers: the bits of the small arrays.
        large: the large arrays.
    """

    def __init__(self, packing: StatePacking, numbers: Any, large: list[Any]) -> None:
        self._packing = packing
        self.arrays = numbers, large

    def unpack(self) -> Any:
        """Return the state."""
        numbers, large = self.arrays
        return self._packing.unpack(np.asarray(numbers), large)

    def tree_flatten(self) -> tuple[list[Any], Any]:
        """Return the state's arrays and structure."""
        return jax.tree.leaves(self.unpack()), self._packing.structure

    @classmethod
    def tree_unflatten(cls, structure: Any, leaves: list[Any]) -> Any:
        """Return the state itself."""
        return jax.tree.unflatten(structure, leaves)


def _to_bits(leaf: Any) -> Any:
    if leaf.dtype == np.bool_:
        return leaf.astype(np.int32)
    if isinstance(leaf, jax.Array):
        return jax.lax.bitcast_convert_type(leaf, jnp.int32)
    return np.asarray(leaf).view(np.int32)


def _from_bits(bits: Any, dtype: np.dtype[Any]) -> Any:
    if dtype == np.bool_:
        return bits != 0
    if isinstance(bits, jax.Array):
        return jax.lax.bitcast_convert_type(bits, dtype)
    return bits.view(dtype)
