"""What a user shows a policy: one observation or a batch of them, held against its space."""

from typing import Any

import numpy as np
from gymnasium import spaces

from poise.space_parts import mapping

__all__ = ["observed"]


def observed(space: spaces.Space[Any], observation: Any) -> tuple[Any, int | None]:
    """A batch out of one observation, or out of a batch.

    Args:
        space: of one observation.
        observation: arrays (or numbers, or nested lists) as the space has them, or all of these
            with one more axis in front.

    Returns:
        The batch, a pytree of arrays ``[N, ...]``, and N; None for a single observation.

    Raises:
        ValueError: another shape, no numbers, or a number that is not finite.
    """
    counts: set[int | None] = set()
    batch = _observed(space, observation, "observation", counts)
    if len(counts) > 1:
        raise ValueError("some parts of the observation are a batch, and others are not as large")
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
        raise ValueError(f"{name} is no array: {wanted}") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {type(observation).__name__}, no numbers: {wanted}")
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
