"""Encoders: from an observation of any supported space to one vector of features.

Numbers as they are (`Scaling` has been at them), categories one-hot, parts of Tuple and Dict spaces
side by side (as Gymnasium's ``flatten`` does). Works on NumPy and on JAX arrays, with any leading
axes.
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
"""Categories are numbered in int32, as XLA has them."""
LONGEST = 200
"""Letters of a space that are shown."""


def feature_count(space: spaces.Space[Any]) -> int:
    """Length of the vector that `encode` makes of one observation.

    Raises:
        UnsupportedSpaceError: for a space other than Box, Discrete, MultiDiscrete, MultiBinary,
            and Tuple and Dict of these.
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
    """Look at every part of an observation space.

    Raises:
        UnsupportedSpaceError: poise cannot learn from a part; says which, and what to do.
    """
    strange = []
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
                strange.append((path, part))
    if strange:
        remedy = "make numbers of it in a gymnasium.wrappers.TransformObservation"
        if strange[0][0]:
            names = given("ignore_observations", [_name(path) for path, _ in strange])
            remedy = f"leave it out with {names}, or {remedy}"
        raise _unsupported(strange[0][1], _shown(strange[0][0]), remedy)


def _shown(path: tuple[Any, ...]) -> str:
    return "observation" + "".join(f"[{key!r}]" for key in path)


def _name(path: tuple[Any, ...]) -> str:
    """What ``--ignore-observations`` calls a part."""
    plain = len(path) == 1 and isinstance(path[0], str)
    return str(path[0]) if plain else "".join(f"[{key!r}]" for key in path)


def brief_space(space: spaces.Space[Any]) -> str:
    """A space for a message: on one line, not too long."""
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
        _spelt_out(piece) if isinstance(piece, Lookup) else piece
        for piece in pieces(space, observation)
    ]
    return found[0] if len(found) == 1 else array_namespace(*found).concatenate(found, axis=-1)


def pieces(space: spaces.Space[Any], observation: Any) -> list[Any]:
    """An observation (or a batch of them) in pieces, in the order of the space's parts.

    Returns:
        Float32 arrays ``[..., n]``, with few categories as one-hot; and a `Lookup` for many.
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
                # The commonest case, in a line: NumPy meets it at every step.
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
    """Categories ``[..., k]`` as one-hot where there are few, else as a `Lookup`.

    Neighbours of one size are encoded at once: a board has hundreds of them.
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
    """``[..., k]`` to ``[..., k * size]``."""
    xp = array_namespace(index)
    hot = xp.expand_dims(index, -1) == aligned(np.arange(size), index.ndim + 1)
    return hot.astype(np.float32).reshape((*index.shape[:-1], index.shape[-1] * size))


def _spelt_out(lookup: Lookup) -> Any:
    """A lookup as one-hot."""
    columns = [
        _one_hot(lookup.index[..., number : number + 1], size)
        for number, size in enumerate(lookup.sizes)
    ]
    return array_namespace(lookup.index).concatenate(columns, axis=-1)
