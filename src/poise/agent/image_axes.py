"""Image axes: which parts of an observation are images, and what each of their axes is.

Letters name the axes: H height, W width, C colours (channels), S stacked frames.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from poise.space_parts import parts

__all__ = [
    "SMALLEST_SIDE",
    "ImageLayout",
    "has_images",
    "image_layout",
    "is_image",
]

SMALLEST_SIDE = 12
"""Smallest height or width of an image in pixels; the filters need this many."""
MIN_AXES, MAX_AXES = 2, 5
_CHANNEL_LETTERS = {0: "", 1: "C", 2: "SC", 3: "SSC"}


class ImageLayout(NamedTuple):
    """The meaning and the sizes of an image's axes.

    Attributes:
        axes: a letter for each axis: H, W, C or S.
        height: height in pixels.
        width: width in pixels.
        channels: number of colours times number of stacked frames.
    """

    axes: str
    height: int
    width: int
    channels: int

    @property
    def order(self) -> tuple[int, ...]:
        """The axes' indices: height, width, then all others in their original order."""
        others = [index for index, letter in enumerate(self.axes) if letter not in "HW"]
        return (self.axes.index("H"), self.axes.index("W"), *others)


def image_layout(space: spaces.Space[Any], image_axes: str = "auto") -> ImageLayout | None:
    """Return the layout of a part of an observation; None if the part is not an image.

    Args:
        space: the part's space.
        image_axes: ``auto`` treats bytes of at least 12 x 12 pixels as an image. Height and width
            are then the two neighbouring axes whose shorter side is longest (the last such pair).
            Letters name the axes of every part that has as many axes; such a part is an image of
            any dtype, if it is bounded. ``none``: nothing is an image.
    """
    if not isinstance(space, spaces.Box) or image_axes == "none":
        return None
    shape = space.shape
    if len(shape) == len(image_axes) and image_axes != "auto":
        if not space.is_bounded():
            return None
        axes = image_axes
    elif space.dtype == np.uint8 and MIN_AXES <= len(shape) <= MAX_AXES:
        axes = _guessed(shape)
    else:
        return None
    height, width = shape[axes.index("H")], shape[axes.index("W")]
    if min(height, width) < SMALLEST_SIDE:
        return None
    return ImageLayout(axes, height, width, math.prod(shape) // (height * width))


def _guessed(shape: tuple[int, ...]) -> str:
    pairs = range(len(shape) - 1)
    first = max(pairs, key=lambda index: (min(shape[index], shape[index + 1]), index))
    letters = _CHANNEL_LETTERS[len(shape) - 2]
    return letters[:first] + "HW" + letters[first:]


def is_image(space: spaces.Space[Any], image_axes: str = "auto") -> bool:
    """Return whether a part of an observation is an image."""
    return image_layout(space, image_axes) is not None


def has_images(space: spaces.Space[Any], image_axes: str = "auto") -> bool:
    """Return whether any part of an observation is an image."""
    return any(is_image(part.space, image_axes) for part in parts(space))
