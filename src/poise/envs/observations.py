"""Checking an environment's observations against their space, and stacking them into batches.

Shape, dtype kind and finiteness are checked; bounds are not, because many environments exceed them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.batching import stack
from poise.space_parts import mapping

__all__ = ["batch_checker", "brief", "observation_checker", "one_line"]

LONGEST = 200
"""Characters of a value that are shown in a message."""

Stack = Callable[[Sequence[Any]], Any]


class _NeedsFullCheck(Exception):  # noqa: N818 - a signal, not an error
    """Some observation does not have the usual form, so each must be checked separately."""


def observation_checker(space: spaces.Space[Any]) -> Callable[[Any], str | None]:
    """Return a check of one observation: (observation) -> what is wrong with it, or None."""
    match space:
        case spaces.Dict():
            parts = {key: observation_checker(one) for key, one in space.items()}

            def check_dict(observation: Any) -> str | None:
                if not isinstance(observation, dict) or observation.keys() != parts.keys():
                    return f"observation {brief(observation)} is not a dict with keys {list(parts)}"
                problems = (check(observation[key]) for key, check in parts.items())
                return next((problem for problem in problems if problem), None)

            return check_dict
        case spaces.Tuple():
            checks = [observation_checker(one) for one in space]

            def check_tuple(observation: Any) -> str | None:
                if not isinstance(observation, tuple) or len(observation) != len(checks):
                    return f"observation {brief(observation)} is not a tuple of {len(checks)}"
                pairs = zip(checks, observation, strict=True)
                problems = (check(one) for check, one in pairs)
                return next((problem for problem in problems if problem), None)

            return check_tuple
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return _array_checker(space)
    # Other spaces (text, graphs) are not used by poise and need no check.
    return lambda observation: None


def _array_checker(space: spaces.Space[Any]) -> Callable[[Any], str | None]:
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    floats = dtype.kind == "f"

    def check(observation: Any) -> str | None:
        try:
            array = np.asarray(observation)
        except (TypeError, ValueError):
            return f"observation {brief(observation)} is not an array of shape {shape}"
        if array.shape != shape:
            return f"observation has shape {array.shape}, but its space says {shape}"
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            return f"observation has dtype {array.dtype}, but its space says {dtype}"
        if floats and not np.isfinite(array).all():
            return f"observation is not finite: {brief(observation)}"
        return None

    return check


def batch_checker(space: spaces.Space[Any]) -> Stack:
    """Return a function that checks and stacks observations, much faster than checking each.

    Returns:
        A function (one observation per copy) -> the batch, a pytree of new arrays ``[N, ...]``, or
        None if some observation does not fit; check each one to find out which.
    """
    quick = _quick(space)

    def check(observations: Sequence[Any]) -> Any:
        try:
            return quick(observations)
        except _NeedsFullCheck:
            pass
        each = observation_checker(space)
        if any(each(observation) for observation in observations):
            return None
        return stack(space, observations)

    return check


def _quick(space: spaces.Space[Any]) -> Stack:
    match space:
        case spaces.Dict():
            parts = {key: _quick(one) for key, one in space.items()}

            def stack_dicts(observations: Sequence[Any]) -> Any:
                for one in observations:
                    if type(one) is not dict or len(one) != len(parts):
                        raise _NeedsFullCheck
                try:
                    return mapping(
                        (key, part([one[key] for one in observations]))
                        for key, part in parts.items()
                    )
                except KeyError:
                    raise _NeedsFullCheck from None

            return stack_dicts
        case spaces.Tuple():
            stacks = [_quick(one) for one in space]

            def stack_tuples(observations: Sequence[Any]) -> Any:
                for one in observations:
                    if type(one) is not tuple or len(one) != len(stacks):
                        raise _NeedsFullCheck
                columns = zip(*observations, strict=True)
                return tuple(part(column) for part, column in zip(stacks, columns, strict=True))

            return stack_tuples
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    floats = dtype.kind == "f"

    def stack_arrays(observations: Sequence[Any]) -> np.ndarray:
        try:
            batch = np.array(observations)
        except ValueError:
            raise _NeedsFullCheck from None
        if batch.dtype != dtype or batch.shape[1:] != shape:
            raise _NeedsFullCheck
        if floats and not np.isfinite(batch).all():
            raise _NeedsFullCheck
        return batch

    return stack_arrays


def brief(value: Any) -> str:
    """Return a short representation of a value, on one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"({type(value).__name__} that cannot be printed)"
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def one_line(error: BaseException) -> str:
    """Return an exception's message, on one line."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return "(its message is not available)"
