"""Ignored parts: leave out parts of Dict and Tuple observations.

A part is named by its key (``mission``) or by its path (``['robot']['name']``).
"""

import ast
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from gymnasium import spaces

from poise.errors import ConfigError

__all__ = ["has_form", "leave_out", "paths_of", "reduced_space"]

Path = tuple[Any, ...]
"""Keys and indices that lead to a part."""
NOTATION = "observation"
"""The prefix of a path in error messages."""


def paths_of(container: Any, names: Iterable[str]) -> dict[str, Path | None]:
    """The path to each named part of an observation or its space; None if there is no such part."""
    return {name: _path(container, name) for name in names}


def reduced_space(
    space: spaces.Space[Any], names: Sequence[str], environment: str
) -> spaces.Space[Any]:
    """An observation space without the named parts.

    Args:
        space: space of the whole observation.
        names: names of the parts to leave out.
        environment: the environment's name, for error messages.

    Raises:
        ConfigError: there is no such part, or nothing would be left.
    """
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        raise ConfigError(
            f"--ignore-observations is given, but observations of {environment} have no parts"
        )
    found = paths_of(space, names)
    for name, path in found.items():
        if path is None:
            there = ", ".join(map(repr, _keys(space)))
            raise ConfigError(
                f"--ignore-observations names {name!r}, but observations of {environment} "
                f"have the parts {there}"
            )
    reduced = _reduced(space, {path for path in found.values() if path is not None}, ())
    if reduced is None:
        raise ConfigError(
            f"--ignore-observations leaves nothing of the observations of {environment}"
        )
    return reduced


def leave_out(observation: Any, names: Iterable[str]) -> Any:
    """An observation without the named parts. Parts that it does not have are skipped."""
    dropped = {path for path in paths_of(observation, names).values() if path is not None}
    return _left(observation, dropped, ()) if dropped else observation


def has_form(space: spaces.Space[Any], observation: Any) -> bool:
    """Whether an observation has exactly the parts that its space declares."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return True
    kind = tuple if isinstance(space, spaces.Tuple) else dict
    if not isinstance(observation, kind) or set(_keys(space)) != set(_keys(observation)):
        return False
    return all(has_form(space[key], observation[key]) for key in _keys(space))


def _reduced(space: spaces.Space[Any], dropped: set[Path], here: Path) -> spaces.Space[Any] | None:
    """The space without the dropped parts; None if nothing is left."""
    if here in dropped:
        return None
    if not any(path[: len(here)] == here for path in dropped):
        return space
    parts = [(key, _reduced(space[key], dropped, (*here, key))) for key in _keys(space)]  # type: ignore[index]
    kept = [(key, part) for key, part in parts if part is not None]
    if not kept:
        return None
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([part for _, part in kept])
    # An OrderedDict, because Gymnasium sorts the keys of any other mapping.
    return spaces.Dict(OrderedDict(kept))


def _left(observation: Any, dropped: set[Path], here: Path) -> Any:
    if not any(path[: len(here)] == here for path in dropped):
        return observation
    kept = [
        (key, _left(observation[key], dropped, (*here, key)))
        for key in _keys(observation)
        if (*here, key) not in dropped
    ]
    return tuple(part for _, part in kept) if isinstance(observation, tuple) else dict(kept)


def _keys(container: Any) -> list[Any]:
    match container:
        case spaces.Dict():
            return list(container.spaces)
        case spaces.Tuple() | tuple():
            return list(range(len(container)))
        case dict():
            return list(container)
    return []


def _path(container: Any, name: str) -> Path | None:
    keys = _keys(container)
    for key in keys:
        if isinstance(key, str) and key == name:
            return (key,)
    for key in keys:
        if str(key) == name:
            return (key,)
    path = _parsed(name.removeprefix(NOTATION))
    place = container
    for key in path:
        if key not in _keys(place):
            return None
        place = place[key]
    return path or None


def _parsed(name: str) -> Path:
    """The keys of a path such as ``['robot'][0]``; empty if the text is not a path."""
    try:
        node = ast.parse(NOTATION + name, mode="eval").body
        keys: list[Any] = []
        while isinstance(node, ast.Subscript):
            keys.append(ast.literal_eval(node.slice))
            node = node.value
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ()
    return tuple(reversed(keys)) if isinstance(node, ast.Name) and node.id == NOTATION else ()
