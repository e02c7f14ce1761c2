"""Encoders: turn an observation of any supported space into one vector of features.

Numbers stay as they are (`Scaling` has scaled them already), categories become one-hot, and the
parts of Tuple and Dict spaces are concatenated (as Gymnasium's ``flatten`` does). Works on NumPy
and on JAX arrays, with any leading axes.
"""

import itertools
import math
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.agent.categories import LOOKUP_FROM, Lookup, aligned
from poise.argument_names import given
from poise.errors import UnsupportedSpaceError
from poise.maths.namespace import array_namespace
from poise.space_parts import part_at, parts

__all__ = ["brief_space", "encode", "feature_count", "pieces", "require_encodable"]

LARGEST_START = 2**30
"""Bound on the first category's number: categories are stored as int32, XLA's integer type."""
LONGEST = 200
"""Characters of a space's description that are shown in a message."""


def feature_count(space: spaces.Space[Any]) -> int:
    """Return the length of the vector that `encode` makes of one observation.

    Raises:
        UnsupportedSpaceError: the space is not Box, Discrete, MultiDiscrete, MultiBinary, or Tuple
            or Dict of these.
    """
    return sum(_feature_count(part.space) for part in parts(space))


def _feature_count(space: spaces.Space[Any]) -> int:
    match space:
        case spaces.Box() | spaces.MultiBinary():
            return math.prod(space.shape)
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
    raise _unsupported(space, "observation")


def require_encodable(space: spaces.Space[Any]) -> None:
    """Check that poise can learn from every part of an observation space.

    Raises:
        UnsupportedSpaceError: a part is not supported; the message names it and a remedy.
    """
    unsupported = []
    for path, part in parts(space):
        match part:
            case spaces.Box() | spaces.MultiBinary():
                pass
            case spaces.Discrete() | spaces.MultiDiscrete():
                if np.max(np.abs(part.start), initial=0) > LARGEST_START:
                    raise UnsupportedSpaceError(
                        f"{_shown(path)} is {brief_space(part)}, whose categories begin beyond "
                        "2**30: number them from 0 in a gymnasium.wrappers.TransformObservation"
                    )
            case _:
                unsupported.append((path, part))
    if unsupported:
        remedy = "convert it to numbers in a gymnasium.wrappers.TransformObservation"
        if unsupported[0][0]:
            names = given("ignore_observations", [_name(path) for path, _ in unsupported])
            remedy = f"leave it out with {names}, or {remedy}"
        raise _unsupported(unsupported[0][1], _shown(unsupported[0][0]), remedy)


def _shown(path: tuple[Any, ...]) -> str:
    return "observation" + "".join(f"[{key!r}]" for key in path)


def _name(path: tuple[Any, ...]) -> str:
    """Return a part's name, as ``--ignore-observations`` takes it."""
    plain = len(path) == 1 and isinstance(path[0], str)
    return str(path[0]) if plain else "".join(f"[{key!r}]" for key in path)


def brief_space(space: spaces.Space[Any]) -> str:
    """Describe a space in one short line, for a message."""
    text = " ".join(str(space).split())
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def _unsupported(space: spaces.Space[Any], path: str, remedy: str = "") -> UnsupportedSpaceError:
    return UnsupportedSpaceError(
        f"{path} is {brief_space(space)}, which poise cannot learn from; it learns from Box, "
        "Discrete, MultiDiscrete, MultiBinary, and Tuple and Dict of these"
        + (f": {remedy}" if remedy else "")
    )


def encode(space: spaces.Space[Any], observation: Any) -> Any:
    """Encode one observation (or a batch with leading axes) as ``[..., features]`` float32."""
    found = [
        _lookup_to_one_hot(piece) if isinstance(piece, Lookup) else piece
        for piece in pieces(space, observation)
    ]
    return found[0] if len(found) == 1 else array_namespace(*found).concatenate(found, axis=-1)


def pieces(space: spaces.Space[Any], observation: Any) -> list[Any]:
    """Encode an observation (or a batch) piece by piece, in the order of the space's parts.

    Returns:
        Float32 arrays ``[..., n]`` for numbers and for few categories (one-hot), and a `Lookup`
        for many categories.
    """
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return _pieces(space, observation)
    return [
        piece for path, part in parts(space) for piece in _pieces(part, part_at(observation, path))
    ]


def _pieces(space: spaces.Space[Any], observation: Any) -> list[Any]:
    match space:
        case spaces.Box() | spaces.MultiBinary():
            return [_flat(space, observation).astype(np.float32)]
        case spaces.Discrete():
            value = array_namespace(observation).expand_dims(observation, -1)
            if space.n < LOOKUP_FROM:
                # The most common case, kept short because it runs at every step.
                numbers = np.arange(space.start, space.start + space.n, dtype=np.int32)
                return [(value == numbers).astype(np.float32)]
            return _categories(value, np.array([space.start]), np.array([space.n]))
        case spaces.MultiDiscrete():
            flat = _flat(space, observation)
            return _categories(flat, space.start.reshape(-1), space.nvec.reshape(-1))
    raise _unsupported(space, "observation")


def _flat(space: spaces.Space[Any], observation: Any) -> Any:
    shape = space.shape or ()
    leading = observation.shape[: observation.ndim - len(shape)]
    return observation.reshape((*leading, math.prod(shape)))


def _categories(values: Any, starts: np.ndarray, sizes: np.ndarray) -> list[Any]:
    """Encode ``[..., k]`` indices as one-hot if there are few categories, else as a `Lookup`.

    Neighbours of the same size are encoded together: a board game has hundreds of them.
    """
    xp = array_namespace(values)
    index = values.astype(np.int32) - aligned(starts, values.ndim)
    found: list[Any] = []
    begin = 0
    for size, neighbours in itertools.groupby(min(int(one), LOOKUP_FROM) for one in sizes):
        end = begin + len(list(neighbours))
        some, limits = index[..., begin:end], sizes[begin:end]
        if size < LOOKUP_FROM:
            found.append(_one_hot(some, size))
        else:
            known = (some >= 0) & (some < aligned(limits, some.ndim))
            found.append(Lookup(xp.where(known, some, np.int32(-1)), tuple(map(int, limits))))
        begin = end
    return found


def _one_hot(index: Any, size: int) -> Any:
    """Encode ``[..., k]`` indices as ``[..., k * size]`` one-hot."""
    xp = array_namespace(index)
    hot = xp.expand_dims(index, -1) == aligned(np.arange(size), index.ndim + 1)
    return hot.astype(np.float32).reshape((*index.shape[:-1], index.shape[-1] * size))


def _lookup_to_one_hot(lookup: Lookup) -> Any:
    """Convert a lookup to its one-hot encoding."""
    columns = [
        _one_hot(lookup.index[..., number : number + 1], size)
        for number, size in enumerate(lookup.sizes)
    ]
    return array_namespace(lookup.index).concatenate(columns, axis=-1)
