"""Scaling of an observation's numbers for the network, before they become float32.

A Box is scaled to -1..1 or 0..1 by its own bounds or, if observations are normalised, by the run's
mean and variance (OpenAI Baselines' VecNormalize). Images are left to the convolutional network,
categories and bits to their encoders. The statistics of all normalised numbers form one vector
``[S]``, like the parameters.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.agent.image_axes import is_image
from poise.maths.namespace import array_namespace
from poise.space_parts import Part, map_parts, part_at, parts

__all__ = ["Scaling", "bounds_describe", "needs_normalization", "scale_by_bounds"]

CLIP = 10.0
"""Normalised observations are clipped to this magnitude (OpenAI Baselines' VecNormalize)."""
WIDEST = 1000.0
"""Bounds further apart than this say little about typical values. These may cover so small a part
of the range that a network could hardly tell them apart after scaling."""

MODEST = 32.0
"""Floats whose bounds include 0 are left unscaled if the larger bound is from 1 to this number.
Divided by their bounds (8 and 28), the velocities of Pendulum and Acrobot become small, and both
environments learned worse: one of three seeds solved Acrobot within 100,000 steps, compared with
three of three without the division."""

Scale = Callable[[Any, Any], Any]
"""(numbers, (mean, 1 / standard deviation)) -> scaled numbers."""


def bounds_describe(space: spaces.Box) -> bool:
    """Return whether a Box's bounds are finite and close enough to scale its numbers by them."""
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.asarray(space.high, np.float64) - np.asarray(space.low, np.float64)
    return bool(np.all(width <= WIDEST))


def needs_normalization(space: spaces.Space[Any], image_axes: str = "auto") -> bool:
    """Return whether an observation has numbers without useful bounds (see `bounds_describe`)."""
    return any(
        isinstance(part, spaces.Box)
        and not bounds_describe(part)
        and not is_image(part, image_axes)
        for _, part in parts(space)
    )


def scale_by_bounds(space: Any, numbers: Any) -> Any:
    """Scale numbers ``[..., *shape]`` by the bounds of their Box; returns float32.

    Bounds on both sides of 0 are mapped to -1 and 1, others to 0 and 1 (bytes: divided by 255).
    Floats with small bounds around 0 stay unchanged (see `MODEST`). On NumPy the offset is
    subtracted in float64, so that large numbers close to each other stay distinct.

    Args:
        space: the Box.
        numbers: elements of the Box, with any leading axes.
    """
    low, width = _offset_and_width(space)
    numbers = _wide(numbers)
    rank = len(space.shape)
    low, width = (_aligned(one, numbers, rank) for one in (low, width))
    if np.any(low):
        numbers = numbers - low.astype(numbers.dtype)
    return (numbers / width.astype(numbers.dtype)).astype(np.float32)


def _offset_and_width(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the offset to subtract and the width to divide by; scalars if all are equal."""
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    symmetric = (low < 0) & (high > 0)
    offset = np.where(symmetric, low / 2 + high / 2, low)
    width = np.where(symmetric, high / 2 - low / 2, high - low)
    width = np.where(width > 0, width, 1.0)
    if np.issubdtype(space.dtype, np.floating):
        largest = np.maximum(-low, high)
        modest = (low <= 0) & (high >= 0) & (largest >= 1) & (largest <= MODEST)
        offset, width = np.where(modest, 0.0, offset), np.where(modest, 1.0, width)
    if offset.size and np.all(offset == offset.flat[0]) and np.all(width == width.flat[0]):
        return np.asarray(offset.flat[0]), np.asarray(width.flat[0])
    return offset, width


def _wide(numbers: Any) -> Any:
    """Convert to float32; on NumPy to float64 if float32 would lose precision."""
    kind, size = numbers.dtype.kind, numbers.dtype.itemsize
    exact = size <= 2 or (kind == "f" and size == 4)
    return numbers.astype(np.float32 if exact or array_namespace(numbers) is not np else np.float64)


def _aligned(constant: Any, numbers: Any, rank: int) -> Any:
    """Give a constant of one observation as many axes as the numbers have."""
    shape = np.shape(constant) or (1,) * rank
    return constant.reshape((1,) * (numbers.ndim - rank) + shape)


class Scaling:
    """Scales the observations of one space for the network.

    Args:
        space: the space of one observation.
        image_axes: which parts are images, as in `image_layout`.
        normalized: whether to normalise all numbers but images and bits.

    Attributes:
        count: S, the number of normalised numbers in an observation.
    """

    def __init__(self, space: spaces.Space[Any], image_axes: str, normalized: bool) -> None:
        self._normalized = normalized
        self._image_axes = image_axes
        self._space = space
        self.count = 0
        self._scale = self._plan(space)

    def __call__(self, observation: Any, statistics: Any) -> Any:
        """Scale an observation, or a batch with any leading axes.

        Args:
            observation: an observation, as returned by the environment.
            statistics: ``[S]`` mean and ``[S]`` 1 / standard deviation; ``()`` if nothing is
                normalised.
        """
        return observation if self._scale is None else self._scale(observation, statistics)

    def gather(self, observation: Any) -> Any:
        """Collect the numbers to normalise, ``[..., S]``: float64 on NumPy, float32 on XLA."""
        found = []
        for path, part in parts(self._space):
            if self.is_normalized(part):
                numbers = part_at(observation, path)
                rank = len(part.shape or ())
                leading = numbers.shape[: numbers.ndim - rank]
                wide = np.float64 if array_namespace(numbers) is np else np.float32
                found.append(numbers.reshape((*leading, _size(part))).astype(wide))
        return array_namespace(*found).concatenate(found, axis=-1)

    def is_normalized(self, space: spaces.Space[Any]) -> bool:
        """Return whether a part of the observation is normalised."""
        if not self._normalized or not isinstance(space, spaces.Box):
            return False
        # Bits are left as they are.
        return space.dtype.kind in "iuf" and not is_image(space, self._image_axes)

    def _plan(self, space: spaces.Space[Any]) -> Scale | None:
        """Return the function that scales an observation; None if there is nothing to scale."""
        plans = {
            path: self._plan_box(part) if isinstance(part, spaces.Box) else None
            for path, part in parts(space)
        }
        if all(plan is None for plan in plans.values()):
            return None
        if () in plans:
            return plans[()]

        def scale(observation: Any, statistics: Any) -> Any:
            def scale_part(part: Part, numbers: Any) -> Any:
                plan = plans[part.path]
                return numbers if plan is None else plan(numbers, statistics)

            return map_parts(scale_part, space, observation)

        return scale

    def _plan_box(self, space: spaces.Box) -> Scale | None:
        if self.is_normalized(space):
            begin = self.count
            self.count = end = begin + _size(space)
            return lambda numbers, statistics: _normalize(numbers, statistics, begin, end, space)
        if is_image(space, self._image_axes) or not bounds_describe(space):
            return None
        offset, width = _offset_and_width(space)
        if np.all(offset == 0) and np.all(width == 1) and space.dtype.itemsize <= 4:
            return None
        return lambda numbers, statistics: scale_by_bounds(space, numbers)


def _normalize(numbers: Any, statistics: Any, begin: int, end: int, space: spaces.Box) -> Any:
    mean, scale = (one[begin:end].reshape(space.shape) for one in statistics)
    wide = np.float64 if array_namespace(numbers, mean) is np else np.float32
    rank = len(space.shape)
    mean, scale = (_aligned(one.astype(wide), numbers, rank) for one in (mean, scale))
    # Subtract before converting to float32, which cannot distinguish 1e8 from 1e8 + 1.
    scaled = (numbers.astype(wide) - mean) * scale
    xp = array_namespace(scaled)
    return xp.clip(scaled, np.float32(-CLIP), np.float32(CLIP)).astype(np.float32)


def _size(space: spaces.Space[Any]) -> int:
    return math.prod(space.shape or ())
