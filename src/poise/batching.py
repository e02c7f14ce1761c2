"""Batches: observations of several copies as one pytree ``[N, ...]``, and actions back apart.

What stands between an environment, which knows one copy, and a network, which is given many.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

__all__ = ["as_typed", "blank", "keyed", "leaves", "mapping", "stack", "unbatch", "unbatch_all"]


def stack(space: spaces.Space[Any], observations: Sequence[Any]) -> Any:
    """Observations of one copy each, as a pytree of NumPy arrays ``[N, ...]``."""
    empty: Any = create_empty_array(space, len(observations))
    return keyed(space, concatenate(space, observations, empty))


def blank(space: spaces.Space[Any], count: int) -> Any:
    """A batch of ``count`` observations of the right shapes and dtypes, all 0."""
    return keyed(space, create_empty_array(space, count))


def mapping(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """The parts of a Dict by key, so that JAX can handle them whatever the keys are.

    JAX sorts a dict's keys, which fails where they are numbers beside texts; those of an
    OrderedDict it leaves in order, here that of the space.
    """
    parts = dict(pairs)
    return parts if all(isinstance(key, str) for key in parts) else OrderedDict(parts)


def keyed(space: spaces.Space[Any], value: Any) -> Any:
    """An observation or action (or a batch of them) with every Dict as `mapping` makes it."""
    match space:
        case spaces.Tuple():
            return tuple(keyed(part, one) for part, one in zip(space, value, strict=True))
        case spaces.Dict():
            return mapping((key, keyed(part, value[key])) for key, part in space.items())
    return value


def leaves(value: Any) -> list[Any]:
    """What nested dicts, tuples and lists hold, in an order that only their keys determine."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value, key=repr) for leaf in leaves(value[key])]
    if isinstance(value, tuple | list):
        return [leaf for one in value for leaf in leaves(one)]
    return [value]


def unbatch(actions: Any, space: spaces.Space[Any], index: int) -> Any:
    """One copy's action out of a batch of environment actions; an int for a Discrete space."""
    match space:
        case spaces.Discrete():
            return int(actions[index])
        case spaces.Tuple():
            parts = zip(space, actions, strict=True)
            return tuple(unbatch(part, one, index) for one, part in parts)
        case spaces.Dict():
            return {key: unbatch(actions[key], one, index) for key, one in space.items()}
    # XLA has 32 bits where many a space has 64.
    return np.asarray(actions[index], space.dtype)


def unbatch_all(actions: Any, space: spaces.Space[Any], count: int) -> list[Any]:
    """All copies' actions out of a batch; at once where that is quick."""
    if isinstance(space, spaces.Discrete):
        return list(np.asarray(actions).tolist())
    return [unbatch(actions, space, index) for index in range(count)]


def as_typed(actions: Any, space: spaces.Space[Any]) -> Any:
    """A batch of actions, or one, in the dtypes of its space."""
    match space:
        case spaces.Tuple():
            return tuple(as_typed(one, part) for one, part in zip(actions, space, strict=True))
        case spaces.Dict():
            return {key: as_typed(actions[key], part) for key, part in space.items()}
    return np.asarray(actions, space.dtype)
