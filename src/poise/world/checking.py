"""Checks of an environment before training begins: whether it keeps Gymnasium's contract.

A short look, a few resets and steps, so that what would fail after hours fails in a moment.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from poise.errors import EnvironmentCheckError, InputError, PoiseError
from poise.world.hosted import observation_checker
from poise.world.source import EnvironmentSource

__all__ = ["check_environment", "in_time"]

STEPS = 20


def check_environment(source: EnvironmentSource, timeout: float) -> bool:
    """Make a copy, reset it and step it a little with random actions.

    Args:
        source: makes the copy.
        timeout: seconds after which it counts as hung.

    Returns:
        Whether a second copy with the same seed and actions did the same, as far as was seen: if
        not, the environment has a state outside, and no run of it can be replayed.

    Raises:
        EnvironmentCheckError: it hangs, raises, or breaks the contract; says how.
        InputError: it cannot be made.
    """
    first = in_time(lambda: _check(source), timeout, source.name)
    second = in_time(lambda: _check(source), timeout, source.name)
    return bool(first == second)


def in_time(work: Callable[[], Any], timeout: float, name: str) -> Any:
    """Run something that may hang in a thread that can be left behind.

    Raises:
        EnvironmentCheckError: it did not come back in time.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise EnvironmentCheckError(
            f"the environment {name} has not answered for {timeout:g} s (--worker-timeout): "
            "does its constructor, reset or step wait for something?"
        )
    if failure:
        raise failure[0]
    return outcome[0]


def _check(source: EnvironmentSource) -> list[bytes]:
    """Check one copy; returns what it showed, to be compared with another copy's."""
    seen: list[bytes] = []
    environment = source.make()
    name = source.name
    try:
        check = observation_checker(environment.observation_space)
        environment.action_space.seed(0)
        _check_reset(name, check, _call(name, "reset", lambda: environment.reset(seed=0)))
        for _ in range(STEPS):
            action = environment.action_space.sample()
            step = functools.partial(environment.step, action)
            result = _call(name, f"step({action!r})", step)
            seen.append(_fingerprint(result[:4]))
            if _check_step(name, check, action, result):
                _check_reset(name, check, _call(name, "reset", environment.reset))
    finally:
        environment.close()
    return seen


def _fingerprint(shown: Any) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(shown))


def _call(name: str, what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (PoiseError, InputError):
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentCheckError(
            f"the environment {name} raised in {what} (seed 0): {type(error).__name__}: {error}"
        ) from error


def _check_reset(name: str, check: Callable[[Any], str | None], result: Any) -> None:
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise EnvironmentCheckError(
            f"the environment {name} must return (observation, info dict) from reset, but "
            f"returned {_kind(result)}"
        )
    problem = check(result[0])
    if problem:
        raise EnvironmentCheckError(f"the environment {name}, reset with seed 0: {problem}")


def _check_step(name: str, check: Callable[[Any], str | None], action: Any, result: Any) -> bool:
    where = f"the environment {name}, step({action!r}) after reset with seed 0"
    if not isinstance(result, tuple) or len(result) != 5:
        raise EnvironmentCheckError(
            f"{where}: must return (observation, reward, terminated, truncated, info), but "
            f"returned {_kind(result)}"
            + ("; the old API had no truncated" if _length(result) == 4 else "")
        )
    observation, reward, terminated, truncated, _ = result
    problem = check(observation)
    if problem:
        raise EnvironmentCheckError(f"{where}: {problem}")
    if not isinstance(reward, int | float | np.number | np.ndarray) or np.size(reward) != 1:
        raise EnvironmentCheckError(f"{where}: the reward must be a number, but is {reward!r}")
    if not np.isfinite(reward):
        raise EnvironmentCheckError(f"{where}: the reward is {reward}")
    for flag, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, bool | np.bool_):
            raise EnvironmentCheckError(f"{where}: {flag} must be a bool, but is {value!r}")
    return bool(terminated or truncated)


def _length(result: Any) -> int:
    return len(result) if isinstance(result, tuple) else -1


def _kind(result: Any) -> str:
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}: ({', '.join(type(one).__name__ for one in result)})"
    return f"{type(result).__name__}"
