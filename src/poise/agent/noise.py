"""Noise for action heads, from a NumPy generator or, in compiled functions, from a JAX key."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = [
    "GUMBEL",
    "LOGISTIC",
    "NORMAL",
    "UNIFORM",
    "Noise",
    "NoiseKind",
    "draw_with_generator",
    "draw_with_key",
]


class NoiseKind(NamedTuple):
    """A standard distribution of noise; a head may define one of its own.

    Attributes:
        on_numpy: (generator, shape) -> array.
        in_xla: (key, shape) -> array.
    """

    on_numpy: Callable[[np.random.Generator, tuple[int, ...]], Any]
    in_xla: Callable[[Any, tuple[int, ...]], Any]


Noise = Callable[[NoiseKind, tuple[int, ...]], Any]
"""Draws float32 noise of the given kind and shape."""

GUMBEL = NoiseKind(lambda generator, shape: generator.gumbel(size=shape), jax.random.gumbel)
NORMAL = NoiseKind(
    lambda generator, shape: generator.standard_normal(shape, np.float32), jax.random.normal
)
UNIFORM = NoiseKind(
    lambda generator, shape: generator.random(shape, np.float32), jax.random.uniform
)
LOGISTIC = NoiseKind(lambda generator, shape: generator.logistic(size=shape), jax.random.logistic)


def draw_with_generator(generator: np.random.Generator) -> Noise:
    """Return a source of noise that draws from a NumPy generator."""

    def draw(kind: NoiseKind, shape: tuple[int, ...]) -> Any:
        return np.asarray(kind.on_numpy(generator, shape)).astype(np.float32, copy=False)

    return draw


def draw_with_key(key: Any) -> Noise:
    """Return a source of noise that splits a JAX key for every draw."""

    def draw(kind: NoiseKind, shape: tuple[int, ...]) -> Any:
        nonlocal key
        key, now = jax.random.split(key)
        return kind.in_xla(now, shape)

    return draw
