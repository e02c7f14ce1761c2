"""The parts of nested Tuple and Dict spaces, and of their values."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gymnasium import spaces

__all__ = ["Part", "children", "map_parts", "mapping", "part_at", "parts", "rebuild"]

Path = tuple[Any, ...]
"""Keys and indices that lead to a part."""


class Part(NamedTuple):
    """A leaf of a nested space: a space that is neither Tuple nor Dict.

    Attributes:
        path: keys and indices that lead to the part.
        space: the part's space.
    """

    path: Path
    space: spaces.Space[Any]


def children(space: spaces.Space[Any]) -> list[tuple[Any, spaces.Space[Any]]]:
    """(index or key, space) of each direct child of a Tuple or Dict; empty for other spaces."""
    match space:
        case spaces.Tuple():
            return list(enumerate(space.spaces))
        case spaces.Dict():
            return list(space.spaces.items())
    return []


def parts(space: spaces.Space[Any], path: Path = ()) -> list[Part]:
    """All parts of a space, in order. A space that is not a Tuple or Dict is its own single part.

    Args:
        space: the space.
        path: prefix of the parts' paths.
    """
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return [Part(path, space)]
    return [one for key, part in children(space) for one in parts(part, (*path, key))]


def part_at(value: Any, path: Path) -> Any:
    """The part of a value (or of a batch of values) at a path."""
    for key in path:
        value = value[key]
    return value


def map_parts(
    change: Callable[[Part, Any], Any], space: spaces.Space[Any], value: Any, path: Path = ()
) -> Any:
    """Apply a function to every part of a value of a space (or of a batch of values).

    Args:
        change: (part, its value) -> its new value.
        space: the value's space.
        value: tuples and dicts nested as in the space.
        path: prefix of the parts' paths.
    """
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return change(Part(path, space), value)
    changed = [map_parts(change, part, value[key], (*path, key)) for key, part in children(space)]
    return rebuild(space, changed)


def rebuild(space: spaces.Space[Any], values: Iterable[Any]) -> Any:
    """Build a tuple or `mapping` from the values of a Tuple's or Dict's direct children."""
    if isinstance(space, spaces.Tuple):
        return tuple(values)
    return mapping(zip((key for key, _ in children(space)), values, strict=True))


def mapping(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """The parts of a Dict by key, in a form that JAX can handle whatever the keys are.

    JAX sorts a dict's keys, which fails if some are numbers and some are strings. It keeps the
    order of an OrderedDict, which here is the order of the space.
    """
    values = dict(pairs)
    return values if all(isinstance(key, str) for key in values) else OrderedDict(values)
