"""Noise for action heads: from a NumPy generator, or from a JAX key inside compiled functions."""

from typing import Any

import jax
import numpy as np

from poise.agent.heads import Noise

__all__ = ["draw_with_generator", "draw_with_key"]


def draw_with_generator(generator: np.random.Generator) -> Noise:
    """A source of noise that uses up a generator."""

    def draw(kind: str, shape: tuple[int, ...]) -> np.ndarray:
        match kind:
            case "gumbel":
                return generator.gumbel(size=shape).astype(np.float32)
            case "normal":
                return generator.standard_normal(shape, np.float32)
            case "logistic":
                return generator.logistic(size=shape).astype(np.float32)
        raise ValueError(f"unknown kind of noise: {kind}")

    return draw


def draw_with_key(key: Any) -> Noise:
    """A source of noise that uses up a JAX key."""

    def draw(kind: str, shape: tuple[int, ...]) -> Any:
        nonlocal key
        key, now = jax.random.split(key)
        match kind:
            case "gumbel":
                return jax.random.gumbel(now, shape)
            case "normal":
                return jax.random.normal(now, shape)
            case "logistic":
                return jax.random.logistic(now, shape)
        raise ValueError(f"unknown kind of noise: {kind}")

    return draw
