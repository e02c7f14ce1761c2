"""Encoders: from an observation of any supported space to one vector of features.

Numbers as they are, categories one-hot, parts of Tuple and Dict spaces side by side (as
Gymnasium's ``flatten`` does). Works on NumPy and on JAX arrays, with any leading axes.
"""

import math
import shlex
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.errors import UnsupportedSpaceError
from poise.maths.namespace import array_namespace

__all__ = ["brief_space", "encode", "feature_count", "require_encodable"]

LONGEST = 200
"""Letters of a space that are shown."""


def feature_count(space: spaces.Space[Any]) -> int:
    """Length of the vector that `encode` makes of one observation.

    Raises:
        UnsupportedSpaceError: for a space other than Box, Discrete, MultiDiscrete, MultiBinary,
            and Tuple and Dict of these.
    """
    match space:
        case spaces.Box() | spaces.MultiBinary():
            return math.prod(space.shape)
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case spaces.Tuple():
            return sum(feature_count(part) for part in space)
        case spaces.Dict():
            return sum(feature_count(part) for part in space.spaces.values())
    raise _unsupported(space, "observation")


def require_encodable(space: spaces.Space[Any], path: tuple[Any, ...] = ()) -> None:
    """Look at every part of an observation space.

    Args:
        space: of the part.
        path: keys and indices that lead to it.

    Raises:
        UnsupportedSpaceError: poise cannot learn from a part; says which, and what to do.
    """
    match space:
        case spaces.Tuple():
            for index, part in enumerate(space):
                require_encodable(part, (*path, index))
        case spaces.Dict():
            for key, part in space.spaces.items():
                require_encodable(part, (*path, key))
        case spaces.Box() | spaces.MultiBinary() | spaces.Discrete() | spaces.MultiDiscrete():
            pass
        case _:
            where = "".join(f"[{key!r}]" for key in path)
            remedy = "make numbers of it in a gymnasium.wrappers.TransformObservation"
            if path:
                plain = len(path) == 1 and isinstance(path[0], str)
                flag = shlex.quote(path[0] if plain else where)
                remedy = f"leave it out with --ignore-observations {flag}, or {remedy}"
            raise _unsupported(space, f"observation{where}", remedy)


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
    match space:
        case spaces.Box() | spaces.MultiBinary():
            rank = len(space.shape)
            leading = observation.shape[: observation.ndim - rank]
            flat = observation.reshape((*leading, math.prod(space.shape)))
            return _scaled(space, flat)
        case spaces.Discrete():
            return _one_hot(observation, int(space.start), int(space.n))
        case spaces.MultiDiscrete():
            rank = len(space.shape)
            leading = observation.shape[: observation.ndim - rank]
            flat = observation.reshape((*leading, math.prod(space.shape)))
            sizes = space.nvec.reshape(-1)
            starts = space.start.reshape(-1)
            parts = [
                _one_hot(flat[..., index], int(starts[index]), int(size))
                for index, size in enumerate(sizes)
            ]
            return array_namespace(flat).concatenate(parts, axis=-1)
        case spaces.Tuple():
            parts = [encode(one, part) for one, part in zip(space, observation, strict=True)]
        case spaces.Dict():
            parts = [encode(one, observation[key]) for key, one in space.spaces.items()]
        case _:
            raise _unsupported(space, "observation")
    return array_namespace(*parts).concatenate(parts, axis=-1)


def _scaled(space: spaces.Space[Any], flat: Any) -> Any:
    """Bytes become numbers from 0 to 1; everything else is taken as it is."""
    numbers = flat.astype(np.float32)
    return numbers / np.float32(255.0) if space.dtype == np.uint8 else numbers


def _one_hot(value: Any, start: int, size: int) -> Any:
    xp = array_namespace(value)
    categories = np.arange(start, start + size, dtype=np.int32)
    return (xp.expand_dims(value, -1) == categories).astype(np.float32)
