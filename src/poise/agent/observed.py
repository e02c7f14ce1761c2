"""Checking and batching the observations that a user passes to a policy."""

from typing import Any

import numpy as np
from gymnasium import spaces

from poise.space_parts import mapping

__all__ = ["observed"]


def observed(space: spaces.Space[Any], observation: Any) -> tuple[Any, int | None]:
    """Check one observation or a batch of them, and return it as a batch.

    Args:
        space: the space of one observation.
        observation: an observation of arrays (or numbers, or nested lists) with the structure and
            shapes of the space, or a batch in which every array has one more axis in front.

    Returns:
        The batch, a pytree of arrays ``[N, ...]``, and its size N, or None in place of N for a
        single observation.

    Raises:
        ValueError: the shape is wrong, or the values are not numbers or not finite.
    """
    counts: set[int | None] = set()
    batch = _observed(space, observation, "observation", counts)
    if len(counts) > 1:
        raise ValueError("the parts of the observation have different batch sizes")
    return batch, counts.pop() if counts else None


def _observed(
    space: spaces.Space[Any], observation: Any, name: str, counts: set[int | None]
) -> Any:
    match space:
        case spaces.Dict():
            if not isinstance(observation, dict) or not space.spaces.keys() <= observation.keys():
                raise ValueError(f"{name} must be a dict with the keys {list(space.spaces)}")
            return mapping(
                (key, _observed(part, observation[key], f"{name}[{key!r}]", counts))
                for key, part in space.spaces.items()
            )
        case spaces.Tuple():
            if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
                raise ValueError(f"{name} must be a tuple of {len(space.spaces)}")
            return tuple(
                _observed(part, one, f"{name}[{number}]", counts)
                for number, (part, one) in enumerate(zip(space, observation, strict=True))
            )
    shape = tuple(space.shape or ())
    wanted = f"the policy takes shape {shape}, or a batch of shape {_with_count(shape)}"
    try:
        array = np.asarray(observation)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not an array: {wanted}") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {type(observation).__name__}, not numbers: {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite: the policy takes finite numbers only")
    dtype = np.dtype(space.dtype)
    if dtype.kind in "iub" and array.dtype.kind == "f" and not (array == np.round(array)).all():
        raise ValueError(f"{name} has fractions, but the policy takes whole numbers ({dtype})")
    if array.shape == shape:
        counts.add(None)
        return array.astype(dtype)[None]
    if array.shape[1:] == shape and array.ndim == len(shape) + 1 and len(array):
        counts.add(len(array))
        return array.astype(dtype)
    raise ValueError(f"{name} has shape {array.shape}, but {wanted}")


def _with_count(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(["N", *map(str, shape)]) + ("," if not shape else "") + ")"
