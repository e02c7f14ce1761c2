"""Image axes: which parts of an observation are pictures, and which axis of a picture is what.

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
"""Pixels; the filters need as many."""
MIN_AXES, MAX_AXES = 2, 5
_CHANNEL_LETTERS = {0: "", 1: "C", 2: "SC", 3: "SSC"}


class ImageLayout(NamedTuple):
    """Which axis of an image is what.

    Attributes:
        axes: a letter for each axis: H, W, C or S.
        height: in pixels.
        width: in pixels.
        channels: colours times stacked frames.
    """

    axes: str
    height: int
    width: int
    channels: int

    @property
    def order(self) -> tuple[int, ...]:
        """The axes in the order height, width, then all others as they come."""
        others = [index for index, letter in enumerate(self.axes) if letter not in "HW"]
        return (self.axes.index("H"), self.axes.index("W"), *others)


def image_layout(space: spaces.Space[Any], image_axes: str = "auto") -> ImageLayout | None:
    """How a part of an observation is laid out if it is an image; None if it is none.

    Args:
        space: of the part.
        image_axes: ``auto`` takes bytes of at least 12 x 12 pixels for an image, and the two
            neighbouring axes whose shorter one is longest for height and width (the later two, if
            several pairs are alike). Letters say it for parts with as many axes, which are then
            images of whatever dtype, if they are bounded. ``none``: nothing is an image.
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
    """Whether a part of an observation is an image."""
    return image_layout(space, image_axes) is not None


def has_images(space: spaces.Space[Any], image_axes: str = "auto") -> bool:
    """Whether an observation has an image in any of its parts."""
    return any(is_image(part.space, image_axes) for part in parts(space))
