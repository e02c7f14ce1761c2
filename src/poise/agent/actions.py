"""From a Gymnasium action space to the head that acts in it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.agent.heads import (
    ActionHead,
    BernoulliHead,
    CategoricalHead,
    GaussianHead,
    GaussianScale,
    JointHead,
    dtype_on,
)
from poise.errors import UnsupportedSpaceError
from poise.maths.namespace import array_namespace

__all__ = ["action_head"]

LARGEST_CATEGORY = 2**31
"""Categories are numbered in int32, as XLA has them."""


def _require_int32(space: spaces.Space[Any], numbers: list[Any]) -> None:
    if any(abs(int(one)) > LARGEST_CATEGORY for one in numbers):
        raise UnsupportedSpaceError(
            f"the action space {space} is not supported: its categories are numbered beyond 2**31; "
            "number them from 0 in a gymnasium.wrappers.TransformAction"
        )


def action_head(space: spaces.Space[Any], gaussian_scale: GaussianScale = "free") -> ActionHead:
    """The head for an action space.

    Args:
        space: Discrete, Box of floats, MultiDiscrete, MultiBinary, or Tuple and Dict of these.
        gaussian_scale: for Box: ``free``, a trainable scale that does not depend on the
            observation, or ``network``, one that the network computes.

    Raises:
        UnsupportedSpaceError: any other space.
    """
    match space:
        case spaces.Discrete():
            _require_int32(space, [space.start, space.start + space.n])
            return CategoricalHead(int(space.n), int(space.start))
        case spaces.Box() if np.issubdtype(space.dtype, np.floating):
            low, high = space.low.reshape(-1), space.high.reshape(-1)
            bounds = tuple(map(float, low)), tuple(map(float, high))
            return GaussianHead(tuple(space.shape), *bounds, str(space.dtype), gaussian_scale)
        case spaces.MultiBinary():
            return BernoulliHead(tuple(space.shape))
        case spaces.MultiDiscrete():
            sizes, starts = space.nvec.reshape(-1), space.start.reshape(-1)
            _require_int32(space, [*starts, *(starts + sizes)])
            components = map(CategoricalHead, map(int, sizes), map(int, starts))
            return JointHead(tuple(components), _stack(tuple(space.shape), space.dtype))
        case spaces.Tuple():
            return JointHead(tuple(action_head(one, gaussian_scale) for one in space), tuple)
        case spaces.Dict():
            keys = list(space.spaces)
            heads = tuple(action_head(space.spaces[key], gaussian_scale) for key in keys)
            return JointHead(heads, lambda parts: dict(zip(keys, parts, strict=True)))
    raise UnsupportedSpaceError(
        f"the action space {space} is not supported; poise learns Discrete, Box of floats, "
        "MultiDiscrete, MultiBinary, and Tuple and Dict of these"
    )


def _stack(shape: tuple[int, ...], dtype: Any) -> Callable[[list[Any]], Any]:
    def assemble(components: list[Any]) -> Any:
        xp = array_namespace(*components)
        flat = xp.stack(components, axis=-1)
        return flat.reshape(flat.shape[:-1] + shape).astype(dtype_on(xp, dtype))

    return assemble
