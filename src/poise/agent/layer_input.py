"""The input of a network's first layer: numbers, and rows of its weight that are looked up."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from poise.agent.categories import Lookup, look_up, lookup_sizes
from poise.agent.encoders import feature_count, pieces
from poise.agent.layers import zeros
from poise.maths.namespace import array_namespace, row_product

__all__ = ["LayerInput", "input_size", "layer_input", "make_table"]

TABLE_SCALE = np.float32(0.1)
"""Standard deviation of a new table's numbers: small enough that the default learning rate soon
changes a row, large enough that rows differ (measured: with 1 and 0.03, learning is far slower)."""


class LayerInput(NamedTuple):
    """An observation, ready to be multiplied with the weight of a first layer."""

    numbers: Any
    """``[..., n]`` float32; None if the observation has no numbers."""
    rows: tuple[slice, ...]
    """The weight's rows that the numbers are multiplied with, in order."""
    lookups: tuple[Lookup, ...] = ()
    offsets: tuple[int, ...] = ()
    """For each lookup index, the weight's row at which its categories begin."""

    def product(self, weight: Any) -> Any:
        """Multiply with a weight ``[inputs, outputs]``; returns ``[..., outputs]``.

        The result equals that of one-hot vectors.
        """
        if not self.lookups:
            return row_product(self.numbers, weight)
        product = look_up(weight, self.lookups, self.offsets).sum(axis=-2)
        if self.numbers is None:
            return product
        parts = [weight[rows] for rows in self.rows]
        return product + row_product(self.numbers, array_namespace(weight).concatenate(parts))


def layer_input(space: spaces.Space[Any], observation: Any, table: Any = None) -> LayerInput:
    """Prepare an observation, or a batch with leading axes, for a first layer.

    Args:
        space: the space of one observation.
        observation: the observation, scaled or not.
        table: the embedding table ``[categories, units]``, whose rows are appended to the numbers;
            None to look categories up in the first layer's weight.
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
        return LayerInput(_joined(numbers), ())
    rows, offsets, row = [], [], 0
    for one in found:
        if isinstance(one, Lookup):
            for size in one.sizes:
                offsets.append(row)
                row += size
        else:
            rows.append(slice(row, row + one.shape[-1]))
            row += one.shape[-1]
    return LayerInput(_joined(numbers) if numbers else None, tuple(rows), lookups, tuple(offsets))


def _joined(numbers: list[Any]) -> Any:
    if len(numbers) == 1:
        return numbers[0]
    return array_namespace(*numbers).concatenate(numbers, axis=-1)


def input_size(space: spaces.Space[Any], embedding_units: int) -> int:
    """Return the number of rows of a first layer's weight; 0 embedding units mean no table."""
    count = feature_count(space)
    if not embedding_units:
        return count
    sizes = lookup_sizes(space)
    return count - sum(sizes) + len(sizes) * embedding_units


def make_table(
    space: spaces.Space[Any], embedding_units: int, generator: np.random.Generator | None
) -> Any:
    """Make an embedding table ``[categories, units]`` of normally distributed numbers.

    Without a generator only its shape is returned; with 0 units, None.
    """
    if not embedding_units:
        return None
    shape = sum(lookup_sizes(space)), embedding_units
    if generator is None:
        return zeros(shape, None)
    return generator.standard_normal(shape, np.float32) * TABLE_SCALE
