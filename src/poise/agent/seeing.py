"""What a network's first layer takes in: numbers, and rows that are looked up."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from poise.agent.categories import Lookup, look_up, lookup_sizes
from poise.agent.encoders import feature_count, pieces
from poise.agent.layers import zeros
from poise.maths.namespace import array_namespace

__all__ = ["Seen", "input_size", "make_table", "see"]

TABLE_SCALE = np.float32(0.1)
"""Standard deviation of a new table's numbers: small enough that a row is soon moved by the default
learning rate, large enough that rows are told apart (measured: 1 and 0.03 learn far slower)."""


class Seen(NamedTuple):
    """An observation, ready to be multiplied with the weight of a first layer."""

    numbers: Any
    """``[..., n]`` float32; None where there are none."""
    rows: tuple[slice, ...]
    """The weight's rows that the numbers are multiplied with, in this order."""
    lookups: tuple[Lookup, ...] = ()
    offsets: tuple[int, ...] = ()
    """The weight's row at which the categories of each looked-up part begin."""

    def product(self, weight: Any) -> Any:
        """``[inputs, outputs]`` to ``[..., outputs]``: what one-hot vectors would give."""
        if not self.lookups:
            return self.numbers @ weight
        product = look_up(weight, self.lookups, self.offsets).sum(axis=-2)
        if self.numbers is None:
            return product
        parts = [weight[rows] for rows in self.rows]
        return product + self.numbers @ array_namespace(weight).concatenate(parts)


def see(space: spaces.Space[Any], observation: Any, table: Any = None) -> Seen:
    """Take in an observation, or a batch with leading axes.

    Args:
        space: of one observation.
        observation: as the environment gave it, or normalised.
        table: ``[categories, units]`` of all looked-up categories, whose rows become numbers behind
            the others; None to look them up in the first layer's weight.
    """
    found = pieces(space, observation)
    numbers = [one for one in found if not isinstance(one, Lookup)]
    lookups = tuple(one for one in found if isinstance(one, Lookup))
    if table is not None:
        sizes = [size for one in lookups for size in one.sizes]
        begins = tuple(itertools.accumulate(sizes[:-1], initial=0))
        embedded = look_up(table, lookups, begins)
        numbers.append(embedded.reshape((*embedded.shape[:-2], -1)))
        lookups = ()
    if not lookups:
        return Seen(_joined(numbers), ())
    rows, offsets, row = [], [], 0
    for one in found:
        if isinstance(one, Lookup):
            for size in one.sizes:
                offsets.append(row)
                row += size
        else:
            rows.append(slice(row, row + one.shape[-1]))
            row += one.shape[-1]
    return Seen(_joined(numbers) if numbers else None, tuple(rows), lookups, tuple(offsets))


def _joined(numbers: list[Any]) -> Any:
    if len(numbers) == 1:
        return numbers[0]
    return array_namespace(*numbers).concatenate(numbers, axis=-1)


def input_size(space: spaces.Space[Any], embedding_units: int) -> int:
    """Rows of the weight of a first layer, with a table of this many columns, or with none."""
    count = feature_count(space)
    if not embedding_units:
        return count
    sizes = lookup_sizes(space)
    return count - sum(sizes) + len(sizes) * embedding_units


def make_table(
    space: spaces.Space[Any], embedding_units: int, generator: np.random.Generator | None
) -> Any:
    """A table ``[categories, units]`` of normal numbers, or its shape; None for none."""
    if not embedding_units:
        return None
    shape = sum(lookup_sizes(space)), embedding_units
    if generator is None:
        return zeros(shape, None)
    return generator.standard_normal(shape, np.float32) * TABLE_SCALE
