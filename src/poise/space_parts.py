"""The parts of nested Tuple and Dict spaces, and of the values in them: one walk for all."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gymnasium import spaces

__all__ = ["Part", "children", "map_parts", "mapping", "part_at", "parts", "rebuild"]

Path = tuple[Any, ...]
"""Keys and indices that lead to a part."""


class Part(NamedTuple):
    """A space inside a space that is neither Tuple nor Dict.

    Attributes:
        path: keys and indices that lead to it.
        space: it.
    """

    path: Path
    space: spaces.Space[Any]


def children(space: spaces.Space[Any]) -> list[tuple[Any, spaces.Space[Any]]]:
    """(index or key, space) of what a Tuple or Dict directly holds; empty for other spaces."""
    match space:
        case spaces.Tuple():
            return list(enumerate(space.spaces))
        case spaces.Dict():
            return list(space.spaces.items())
    return []


def parts(space: spaces.Space[Any], path: Path = ()) -> list[Part]:
    """All parts, in order; of a space that is no Tuple or Dict, itself.

    Args:
        space: what is walked.
        path: put in front of theirs.
    """
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return [Part(path, space)]
    return [one for key, part in children(space) for one in parts(part, (*path, key))]


def part_at(value: Any, path: Path) -> Any:
    """The part of a value (or of a batch of them) that a path leads to."""
    for key in path:
        value = value[key]
    return value


def map_parts(
    change: Callable[[Part, Any], Any], space: spaces.Space[Any], value: Any, path: Path = ()
) -> Any:
    """A value of a space (or a batch of them) with its parts changed.

    Args:
        change: (part, its value) -> its new value.
        space: of the value.
        value: tuples and dicts, as the space has them.
        path: put in front of the parts'.
    """
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return change(Part(path, space), value)
    changed = [map_parts(change, part, value[key], (*path, key)) for key, part in children(space)]
    return rebuild(space, changed)


def rebuild(space: spaces.Space[Any], values: Iterable[Any]) -> Any:
    """What directly belongs to a Tuple or Dict, as a tuple or `mapping`."""
    if isinstance(space, spaces.Tuple):
        return tuple(values)
    return mapping(zip((key for key, _ in children(space)), values, strict=True))


def mapping(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """The parts of a Dict by key, so that JAX can handle them whatever the keys are.

    JAX sorts a dict's keys, which fails where they are numbers beside texts; those of an
    OrderedDict it leaves in order, here that of the space.
    """
    values = dict(pairs)
    return values if all(isinstance(key, str) for key in values) else OrderedDict(values)
