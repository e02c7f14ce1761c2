"""Lookup of categories: for spaces with many categories, in place of one-hot products.

The product of a one-hot vector with a matrix is one row of the matrix, so the row is looked up
instead. Where even these matrices would be too large, an embedding table with fewer columns is put
in front of the network. It has one row for every category and is trained with the network (Bengio
et al. 2003, "A Neural Probabilistic Language Model", section 2).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from poise.maths.namespace import array_namespace
from poise.space_parts import parts

__all__ = [
    "LOOKUP_FROM",
    "MAX_UNITS",
    "Lookup",
    "aligned",
    "choose_embedding_units",
    "look_up",
    "lookup_sizes",
]

LOOKUP_FROM = 64
"""Spaces with at least this many categories use lookup; below, a one-hot product is as fast."""
MAX_EXACT_WEIGHTS = 1 << 18
"""Most weights that the looked-up rows of the first layers may have; with the default network this
is about 1,300 categories. Above this, a table is faster and learns no worse: with 5,000 categories,
each of which determines one of two actions, the table reached a return of 16.7 of 20 in 300,000
steps, the weights 15.4."""
MAX_TABLE_WEIGHTS = 1 << 20
"""Most weights of a table, unless `MIN_UNITS` requires more. They are part of every gradient and
every snapshot, and a million of them cost a few milliseconds per update."""
MIN_UNITS, MAX_UNITS = 2, 8
"""Bounds on a table's columns; with 1,000 categories, 2 to 8 columns learned better than 16."""


class Lookup(NamedTuple):
    """Category indices of an observation, for parts with many categories."""

    index: Any
    """``[..., k]`` int32, from 0; -1 where the observation is not a valid category."""
    sizes: tuple[int, ...]
    """Number of categories of each of the ``k`` indices."""


def lookup_sizes(space: spaces.Space[Any]) -> list[int]:
    """Return the number of categories of each looked-up part, in the order of the space's parts."""
    sizes: list[int] = []
    for _, part in parts(space):
        match part:
            case spaces.Discrete():
                sizes.append(int(part.n))
            case spaces.MultiDiscrete():
                sizes.extend(int(size) for size in part.nvec.reshape(-1))
    return [size for size in sizes if size >= LOOKUP_FROM]


def choose_embedding_units(space: spaces.Space[Any], width: int) -> int:
    """Return the number of columns of the embedding table; 0 if no table is needed.

    Args:
        space: the space of one observation.
        width: units of the first layers of all trunks together.
    """
    rows = sum(lookup_sizes(space))
    if rows * width <= MAX_EXACT_WEIGHTS:
        return 0
    return max(MIN_UNITS, min(MAX_UNITS, MAX_TABLE_WEIGHTS // rows))


def aligned(numbers: Any, rank: int) -> np.ndarray:
    """Return the numbers as an int32 array of the given rank, along its last axis."""
    return np.asarray(numbers, np.int32).reshape((1,) * (rank - 1) + (-1,))


def look_up(matrix: Any, lookups: Sequence[Lookup], offsets: Sequence[int]) -> Any:
    """Look up rows ``[..., K, columns]`` of a matrix; rows of invalid categories are 0.

    Args:
        matrix: ``[rows, columns]``.
        lookups: lookups with K indices in total.
        offsets: for each index, the row at which its categories begin.
    """
    xp = array_namespace(matrix, *(one.index for one in lookups))
    index = xp.concatenate([one.index for one in lookups], axis=-1)
    known = index >= 0
    rows = xp.where(known, index + aligned(offsets, index.ndim), np.int32(0))
    return xp.take(matrix, rows, axis=0, mode="clip") * xp.expand_dims(known, -1).astype(np.float32)
