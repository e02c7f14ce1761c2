"""Batches: stack observations of several copies into one pytree ``[N, ...]``, and split actions.

An environment works on one copy; a network works on a batch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from poise.space_parts import Part, map_parts

__all__ = ["as_typed", "blank", "keyed", "leaves", "stack", "unbatch", "unbatch_all"]


def stack(space: spaces.Space[Any], observations: Sequence[Any]) -> Any:
    """Stack N observations into a pytree of NumPy arrays ``[N, ...]``."""
    empty: Any = create_empty_array(space, len(observations))
    return keyed(space, concatenate(space, observations, empty))


def blank(space: spaces.Space[Any], count: int) -> Any:
    """A batch of ``count`` zero observations with the right shapes and dtypes."""
    return keyed(space, create_empty_array(space, count))


def keyed(space: spaces.Space[Any], value: Any) -> Any:
    """An observation or action (or a batch) whose dicts have a key order that JAX keeps."""
    return map_parts(lambda part, one: one, space, value)


def leaves(value: Any) -> list[Any]:
    """The leaves of nested dicts, tuples and lists, in an order determined only by the keys."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value, key=repr) for leaf in leaves(value[key])]
    if isinstance(value, tuple | list):
        return [leaf for one in value for leaf in leaves(one)]
    return [value]


def unbatch(actions: Any, space: spaces.Space[Any], index: int) -> Any:
    """One copy's action from a batch of environment actions; an int for a Discrete space."""

    def choose(part: Part, batch: Any) -> Any:
        if isinstance(part.space, spaces.Discrete):
            return int(batch[index])
        # XLA uses 32 bits, but many spaces use 64.
        return np.asarray(batch[index], part.space.dtype)

    return map_parts(choose, space, actions)


def unbatch_all(actions: Any, space: spaces.Space[Any], count: int) -> list[Any]:
    """The actions of all copies from a batch; Discrete actions are converted all at once."""
    if isinstance(space, spaces.Discrete):
        return list(np.asarray(actions).tolist())
    return [unbatch(actions, space, index) for index in range(count)]


def as_typed(actions: Any, space: spaces.Space[Any]) -> Any:
    """A batch of actions, or a single action, in the dtypes of its space."""
    return map_parts(lambda part, one: np.asarray(one, part.space.dtype), space, actions)
