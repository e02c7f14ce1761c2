"""From a Gymnasium action space to the head that acts in it."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.agent.encoders import brief_space
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
from poise.space_parts import children, rebuild

__all__ = ["action_head"]

LARGEST_CATEGORY = 2**31
"""Categories are numbered in int32, as XLA has them."""
MAX_INTEGERS = 256
"""Whole numbers of more values than a byte are no categories any more: to learn them one by one
would take as many outputs, and say nothing about those in between."""
MAX_CATEGORIES = 1 << 14
"""Outputs for all whole numbers of one Box together."""


def _require_int32(space: spaces.Space[Any], numbers: list[Any]) -> None:
    if any(abs(int(one)) > LARGEST_CATEGORY for one in numbers):
        raise UnsupportedSpaceError(
            f"the action space {space} is not supported: its categories are numbered beyond 2**31; "
            "number them from 0 in a gymnasium.wrappers.TransformAction"
        )


def action_head(space: spaces.Space[Any], gaussian_scale: GaussianScale = "free") -> ActionHead:
    """The head for an action space.

    Args:
        space: Discrete, Box, MultiDiscrete, MultiBinary, or Tuple and Dict of these. The whole
            numbers of a Box are categories, as those of a MultiDiscrete space are.
        gaussian_scale: for Box: ``free``, a trainable scale that does not depend on the
            observation, or ``network``, one that the network computes.

    Raises:
        UnsupportedSpaceError: any other space; says which part, and what to do.
    """
    return _head(space, gaussian_scale, "action")


def _head(space: spaces.Space[Any], gaussian_scale: GaussianScale, path: str) -> ActionHead:
    match space:
        case spaces.Discrete():
            _require_int32(space, [space.start, space.start + space.n])
            return CategoricalHead(int(space.n), int(space.start))
        case spaces.Box() if np.issubdtype(space.dtype, np.floating):
            low, high = space.low.reshape(-1), space.high.reshape(-1)
            bounds = tuple(map(float, low)), tuple(map(float, high))
            return GaussianHead(tuple(space.shape), *bounds, str(space.dtype), gaussian_scale)
        case spaces.Box():
            # As Python's integers, which the widest bounds do not overflow.
            first, last = map(int, space.low.reshape(-1)), map(int, space.high.reshape(-1))
            ranges = list(zip(first, last, strict=True))
            counts = [top - bottom + 1 for bottom, top in ranges]
            if max(counts, default=0) > MAX_INTEGERS or sum(counts) > MAX_CATEGORIES:
                raise UnsupportedSpaceError(
                    f"{path} is {brief_space(space)}, whose whole numbers have too many values: "
                    f"poise takes them for categories, {MAX_INTEGERS} of a number and "
                    f"{MAX_CATEGORIES:,} in all at most; act in a Box of floats and round them, "
                    "in a gymnasium.wrappers.TransformAction"
                )
            _require_int32(space, [one for pair in ranges for one in pair])
            components = map(CategoricalHead, counts, (bottom for bottom, _ in ranges))
            return JointHead(tuple(components), _stack(tuple(space.shape), space.dtype))
        case spaces.MultiBinary():
            return BernoulliHead(tuple(space.shape))
        case spaces.MultiDiscrete():
            sizes, starts = space.nvec.reshape(-1), space.start.reshape(-1)
            _require_int32(space, [*starts, *(starts + sizes)])
            components = map(CategoricalHead, map(int, sizes), map(int, starts))
            return JointHead(tuple(components), _stack(tuple(space.shape), space.dtype))
        case spaces.Tuple() | spaces.Dict():
            named = [(part, f"{path}[{key!r}]") for key, part in children(space)]
            heads = tuple(_head(part, gaussian_scale, where) for part, where in named)
            return JointHead(heads, functools.partial(rebuild, space))
    raise UnsupportedSpaceError(
        f"{path} is {brief_space(space)}, which poise cannot choose; it acts in Box, Discrete, "
        "MultiDiscrete, MultiBinary, and Tuple and Dict of these: make one of them of it in a "
        "gymnasium.wrappers.TransformAction"
    )


def _stack(shape: tuple[int, ...], dtype: Any) -> Callable[[list[Any]], Any]:
    def combine(components: list[Any]) -> Any:
        xp = array_namespace(*components)
        flat = xp.stack(components, axis=-1)
        return flat.reshape(flat.shape[:-1] + shape).astype(dtype_on(xp, dtype))

    return combine
