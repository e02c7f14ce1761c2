"""Choosing the action head for a Gymnasium action space."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from poise.agent.encoders import brief_space
from poise.agent.heads import (
    UNBOUNDED,
    ActionHead,
    BernoulliHead,
    CategoricalHead,
    GaussianHead,
    GaussianScale,
    GsdeHead,
    JointHead,
    dtype_on,
)
from poise.errors import ConfigError, UnsupportedSpaceError
from poise.maths.namespace import array_namespace
from poise.space_parts import children, parts, rebuild

__all__ = ["GaussianForm", "action_head", "has_continuous_actions"]

LARGEST_CATEGORY = 2**31
"""Bound on category numbers: they are stored as int32, XLA's integer type."""
MAX_INTEGERS = 256
"""An integer with more values than a byte is not treated as categories: it would need one output
per value, and what is learned about one value would not carry over to its neighbours."""
MAX_CATEGORIES = 1 << 14
"""Bound on the outputs for all integers of one Box together."""


class GaussianForm(NamedTuple):
    """The distribution of continuous actions.

    Attributes:
        scale: ``free``, a trainable scale that does not depend on the observation, ``network``, one
            that the network computes, or ``gsde``, from the features of its last hidden layer.
        squashes: whether actions are passed through tanh.
        features: number of these features.
    """

    scale: GaussianScale = "free"
    squashes: bool = False
    features: int = 0


def _require_int32(space: spaces.Space[Any], numbers: list[Any]) -> None:
    if any(abs(int(one)) > LARGEST_CATEGORY for one in numbers):
        raise UnsupportedSpaceError(
            f"the action space {space} is not supported: its categories are numbered beyond 2**31; "
            "number them from 0 in a gymnasium.wrappers.TransformAction"
        )


def has_continuous_actions(space: spaces.Space[Any]) -> bool:
    """Return whether any part of an action is a Box of floats."""
    found = (part.space for part in parts(space))
    return any(isinstance(one, spaces.Box) and one.dtype.kind == "f" for one in found)


def action_head(
    space: spaces.Space[Any],
    gaussian: GaussianForm = GaussianForm(),  # noqa: B008
) -> ActionHead:
    """Return the head for an action space.

    Args:
        space: Discrete, Box, MultiDiscrete, MultiBinary, or Tuple and Dict of these. The integers
            of a Box are treated as categories, like those of a MultiDiscrete space.
        gaussian: for Box.

    Raises:
        UnsupportedSpaceError: for any other space; the message names the part and a remedy.
        ConfigError: the form of the Gaussian does not fit the space.
    """
    is_box = isinstance(space, spaces.Box) and space.dtype.kind == "f"
    if gaussian.scale == "gsde" and has_continuous_actions(space) and not is_box:
        raise ConfigError(
            "--gaussian-scale gsde needs one Box of floats as action space: use free or network"
        )
    return _head(space, gaussian, "action")


def _gaussian_head(space: spaces.Box, form: GaussianForm, path: str) -> ActionHead:
    low, high = map(np.ravel, (space.low, space.high))
    bounds = tuple(map(float, low)), tuple(map(float, high))
    if form.squashes and not (np.abs([*low, *high]) < UNBOUNDED).all():
        raise ConfigError(
            f"--squash-actions needs finite bounds, but {path} is {brief_space(space)}"
        )
    given = tuple(space.shape), *bounds, str(space.dtype), form.scale, form.squashes
    return GsdeHead(*given, form.features) if form.scale == "gsde" else GaussianHead(*given)


def _head(space: spaces.Space[Any], gaussian: GaussianForm, path: str) -> ActionHead:
    match space:
        case spaces.Discrete():
            _require_int32(space, [space.start, space.start + space.n])
            return CategoricalHead(int(space.n), int(space.start))
        case spaces.Box() if np.issubdtype(space.dtype, np.floating):
            return _gaussian_head(space, gaussian, path)
        case spaces.Box():
            # As Python integers: the difference of the widest bounds would overflow NumPy's.
            first, last = map(int, space.low.reshape(-1)), map(int, space.high.reshape(-1))
            ranges = list(zip(first, last, strict=True))
            counts = [top - bottom + 1 for bottom, top in ranges]
            if max(counts, default=0) > MAX_INTEGERS or sum(counts) > MAX_CATEGORIES:
                raise UnsupportedSpaceError(
                    f"{path} is {brief_space(space)}, whose whole numbers have too many values: "
                    f"poise treats each value as a category, with at most {MAX_INTEGERS} per "
                    f"number and {MAX_CATEGORIES:,} in total; use a Box of floats and round them "
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
            heads = tuple(_head(part, gaussian, where) for part, where in named)
            return JointHead(heads, functools.partial(rebuild, space))
    raise UnsupportedSpaceError(
        f"{path} is {brief_space(space)}, which poise cannot act in; it acts in Box, Discrete, "
        "MultiDiscrete, MultiBinary, and Tuple and Dict of these: convert the space to one of "
        "these in a gymnasium.wrappers.TransformAction"
    )


def _stack(shape: tuple[int, ...], dtype: Any) -> Callable[[list[Any]], Any]:
    def combine(components: list[Any]) -> Any:
        xp = array_namespace(*components)
        flat = xp.stack(components, axis=-1)
        return flat.reshape(flat.shape[:-1] + shape).astype(dtype_on(xp, dtype))

    return combine
