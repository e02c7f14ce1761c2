"""Observations as an environment returns them: held against their space, and stacked to batches.

Shape, dtype kind and finiteness are checked, not bounds: many environments leave theirs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.batching import stack
from poise.space_parts import mapping

__all__ = ["batch_checker", "brief", "observation_checker", "one_line"]

LONGEST = 200
"""Letters of a value that are shown."""

Stack = Callable[[Sequence[Any]], Any]


class _NotAsUsual(Exception):  # noqa: N818 - a signal, not an error
    """Some observation is not of the usual form: each must be looked at."""


def observation_checker(space: spaces.Space[Any]) -> Callable[[Any], str | None]:
    """A check of one observation: (observation) -> what is wrong with it, or None."""
    match space:
        case spaces.Dict():
            parts = {key: observation_checker(one) for key, one in space.items()}

            def check_dict(observation: Any) -> str | None:
                if not isinstance(observation, dict) or observation.keys() != parts.keys():
                    return f"observation {brief(observation)} is no dict with keys {list(parts)}"
                problems = (check(observation[key]) for key, check in parts.items())
                return next((problem for problem in problems if problem), None)

            return check_dict
        case spaces.Tuple():
            checks = [observation_checker(one) for one in space]

            def check_tuple(observation: Any) -> str | None:
                if not isinstance(observation, tuple) or len(observation) != len(checks):
                    return f"observation {brief(observation)} is no tuple of {len(checks)}"
                pairs = zip(checks, observation, strict=True)
                problems = (check(one) for check, one in pairs)
                return next((problem for problem in problems if problem), None)

            return check_tuple
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return _array_checker(space)
    # Texts, graphs and the like: nothing here makes use of them.
    return lambda observation: None


def _array_checker(space: spaces.Space[Any]) -> Callable[[Any], str | None]:
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    floats = dtype.kind == "f"

    def check(observation: Any) -> str | None:
        try:
            array = np.asarray(observation)
        except (TypeError, ValueError):
            return f"observation {brief(observation)} is no array of shape {shape}"
        if array.shape != shape:
            return f"observation has shape {array.shape}, but its space says {shape}"
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            return f"observation has dtype {array.dtype}, but its space says {dtype}"
        if floats and not np.isfinite(array).all():
            return f"observation is not finite: {brief(observation)}"
        return None

    return check


def batch_checker(space: spaces.Space[Any]) -> Stack:
    """A check of many observations at once, a fraction of the time of one for each.

    Returns:
        (observations of one copy each) -> the batch, a pytree of new arrays ``[N, ...]``; None
        where some observation may not fit, and each must be looked at.
    """
    quick = _quick(space)

    def check(observations: Sequence[Any]) -> Any:
        try:
            return quick(observations)
        except _NotAsUsual:
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
                        raise _NotAsUsual
                try:
                    return mapping(
                        (key, part([one[key] for one in observations]))
                        for key, part in parts.items()
                    )
                except KeyError:
                    raise _NotAsUsual from None

            return stack_dicts
        case spaces.Tuple():
            stacks = [_quick(one) for one in space]

            def stack_tuples(observations: Sequence[Any]) -> Any:
                for one in observations:
                    if type(one) is not tuple or len(one) != len(stacks):
                        raise _NotAsUsual
                columns = zip(*observations, strict=True)
                return tuple(part(column) for part, column in zip(stacks, columns, strict=True))

            return stack_tuples
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    floats = dtype.kind == "f"

    def stack_arrays(observations: Sequence[Any]) -> np.ndarray:
        try:
            batch = np.array(observations)
        except ValueError:
            raise _NotAsUsual from None
        if batch.dtype != dtype or batch.shape[1:] != shape:
            raise _NotAsUsual
        if floats and not np.isfinite(batch).all():
            raise _NotAsUsual
        return batch

    return stack_arrays


def brief(value: Any) -> str:
    """A value on one line, not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"({type(value).__name__} that cannot be printed)"
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def one_line(error: BaseException) -> str:
    """An exception's message on one line."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return "(its message is not available)"
