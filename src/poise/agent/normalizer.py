"""Observation normalisation: which numbers of an observation it concerns, and applying it.

Every float in a Box part of the observation space is normalised with the run's mean and variance
and clipped; images (bytes), categories and bits are left alone. The numbers of all parts travel
as one vector ``[S]``, as parameters do.
"""

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.batches import mapping
from poise.maths.namespace import array_namespace

__all__ = ["gather", "normalize_observation", "normalized_count"]

CLIP = 10.0
"""Normalised observations are clipped to this magnitude (OpenAI Baselines' VecNormalize)."""


def _is_normalized(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)


def _parts(space: spaces.Space[Any]) -> list[tuple[Any, spaces.Space[Any]]]:
    match space:
        case spaces.Tuple():
            return list(enumerate(space))
        case spaces.Dict():
            return list(space.spaces.items())
    return []


def normalized_count(space: spaces.Space[Any]) -> int:
    """S: how many numbers of an observation are normalised."""
    if _is_normalized(space):
        return math.prod(space.shape or ())
    return sum(normalized_count(part) for _, part in _parts(space))


def gather(space: spaces.Space[Any], observation: Any) -> Any:
    """The numbers that are normalised, as ``[..., S]`` float32, out of ``[..., ]`` observations."""
    found = _gather(space, observation)
    return array_namespace(*found).concatenate(found, axis=-1)


def _gather(space: spaces.Space[Any], observation: Any) -> list[Any]:
    if _is_normalized(space):
        shape = space.shape or ()
        leading = observation.shape[: observation.ndim - len(shape)]
        return [observation.reshape((*leading, math.prod(shape))).astype(np.float32)]
    found = []
    for key, part in _parts(space):
        found.extend(_gather(part, observation[key]))
    return found


def normalize_observation(
    space: spaces.Space[Any], observation: Any, statistics: tuple[Any, Any]
) -> Any:
    """Normalise an observation (or, on NumPy arrays, a batch).

    Args:
        space: of one observation.
        observation: as the environment gave it.
        statistics: ``[S]`` mean and ``[S]`` 1 / standard deviation.
    """
    normalized, _ = _normalize(space, observation, statistics, 0)
    return normalized


def _normalize(
    space: spaces.Space[Any], observation: Any, statistics: tuple[Any, Any], offset: int
) -> tuple[Any, int]:
    if _is_normalized(space):
        shape = space.shape or ()
        end = offset + math.prod(shape)
        mean, scale = (one[offset:end].reshape(shape) for one in statistics)
        xp = array_namespace(observation, mean)
        centred = (observation.astype(np.float32) - mean) * scale
        return xp.clip(centred, np.float32(-CLIP), np.float32(CLIP)), end
    parts = _parts(space)
    if not parts:
        return observation, offset
    done = {}
    for key, part in parts:
        done[key], offset = _normalize(part, observation[key], statistics, offset)
    return (
        tuple(done.values()) if isinstance(space, spaces.Tuple) else mapping(done.items())
    ), offset
