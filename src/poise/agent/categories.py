"""Categories of many values: rows of a matrix that are looked up, instead of one-hot products.

The product of a one-hot vector with a matrix is one row of it, and its gradient is that row's.
Where even these matrices would be too large, a table of fewer columns stands in front of the
network, with a row of its own for every category, trained with the rest (Bengio et al. 2003, "A
Neural Probabilistic Language Model", section 2).
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
"""Categories from which on a row is looked up; below, a one-hot product is as quick."""
MAX_EXACT_WEIGHTS = 1 << 18
"""Weights that looked-up rows of the first layers may have: of 1,300 categories with the default
network. Beyond, a table is quicker, and learns no worse: with 5,000 categories, each of which tells
one of two actions, it came to 16.7 of 20 in 300,000 steps, the weights to 15.4."""
MAX_TABLE_WEIGHTS = 1 << 20
"""Weights of a table, as far as `MIN_UNITS` allows: they travel with every gradient and every
snapshot, and a million of them take some milliseconds an update."""
MIN_UNITS, MAX_UNITS = 2, 8
"""Columns of a table; with 1,000 categories, 2 to 8 learned better than 16."""


class Lookup(NamedTuple):
    """Parts of an observation each of which is one of many categories."""

    index: Any
    """``[..., k]`` int32, from 0; -1 where the observation is none of them."""
    sizes: tuple[int, ...]
    """Numbers of categories, ``k`` of them."""


def lookup_sizes(space: spaces.Space[Any]) -> list[int]:
    """The numbers of categories that are looked up, in the order of the space's parts."""
    sizes: list[int] = []
    for _, part in parts(space):
        match part:
            case spaces.Discrete():
                sizes.append(int(part.n))
            case spaces.MultiDiscrete():
                sizes.extend(int(size) for size in part.nvec.reshape(-1))
    return [size for size in sizes if size >= LOOKUP_FROM]


def choose_embedding_units(space: spaces.Space[Any], width: int) -> int:
    """Columns of the table of all looked-up categories; 0 where none is needed.

    Args:
        space: of one observation.
        width: units that take the observation in, of all trunks together.
    """
    rows = sum(lookup_sizes(space))
    if rows * width <= MAX_EXACT_WEIGHTS:
        return 0
    return max(MIN_UNITS, min(MAX_UNITS, MAX_TABLE_WEIGHTS // rows))


def aligned(numbers: Any, rank: int) -> np.ndarray:
    """Int32 numbers along the last of this many axes."""
    return np.asarray(numbers, np.int32).reshape((1,) * (rank - 1) + (-1,))


def look_up(matrix: Any, lookups: Sequence[Lookup], offsets: Sequence[int]) -> Any:
    """Rows ``[..., K, columns]`` of a matrix, one for each part; 0 where it is no category.

    Args:
        matrix: ``[rows, columns]``.
        lookups: with K parts together.
        offsets: the row at which the categories of each part begin.
    """
    xp = array_namespace(matrix, *(one.index for one in lookups))
    index = xp.concatenate([one.index for one in lookups], axis=-1)
    known = index >= 0
    rows = xp.where(known, index + aligned(offsets, index.ndim), np.int32(0))
    return xp.take(matrix, rows, axis=0, mode="clip") * xp.expand_dims(known, -1).astype(np.float32)
