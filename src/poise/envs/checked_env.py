"""A checked environment: errors are reported with the copy's seed and last action.

All code that steps an environment from Python (training, evaluation, baseline, the check before
training) uses this class, so that violations of Gymnasium's API are reported the same everywhere.
"""

import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from poise.envs.observations import brief, observation_checker, one_line
from poise.errors import EnvironmentFailureError, PoiseError

__all__ = ["LARGEST", "CheckedEnv", "close_environment", "forget_closing"]

LARGEST = float(np.finfo(np.float32).max)
"""Largest magnitude of a reward: it must be representable in float32."""


_raised_on_closing: set[str] = set()
"""Names of the environments that this run has already warned about."""


def forget_closing() -> None:
    """Forget which environments have raised on closing; to be called when a run begins."""
    _raised_on_closing.clear()


def close_environment(environment: Any) -> None:
    """Close an environment; if that raises, warn once per run and continue.

    Worker processes do not warn, because the parent closes copies too and warns about them.
    """
    try:
        environment.close()
    except Exception as error:
        spec = getattr(environment, "spec", None)
        inner = getattr(environment, "unwrapped", environment)
        name = type(inner).__qualname__ if spec is None else spec.id
        if name in _raised_on_closing or multiprocessing.parent_process() is not None:
            return
        _raised_on_closing.add(name)
        warnings.warn(
            f"the environment {name} raised when it was closed: "
            f"{type(error).__name__}: {one_line(error)}",
            RuntimeWarning,
            stacklevel=2,
        )


class CheckedEnv:
    """One copy of an environment, whose results are checked.

    Args:
        environment: the environment.
        name: name of this copy for messages, for example ``copy 3``.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], name: str) -> None:
        self.environment = environment
        self.name = name
        self.seed: int | None = None
        """The seed of the last seeded reset."""
        self._step = environment.step
        self._action: Any = None
        self._resetting = True
        self._check: Callable[[Any], str | None] | None = None

    def reset(self, seed: int | None = None) -> Any:
        """Begin an episode; returns the observation, unchecked (see `check`).

        Raises:
            EnvironmentFailureError: the environment raised, or returned an invalid result.
        """
        if seed is not None:
            self.seed = seed
        self._action, self._resetting = None, True
        try:
            result = self.environment.reset(seed=seed)
        except (Exception, SystemExit) as error:
            raise self.raised(error) from error
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
            raise self.failure(
                f"reset must return (observation, info dict), but returned {_kind(result)}"
            )
        return result[0]

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Step; returns observation (unchecked), reward, terminated and truncated.

        Raises:
            EnvironmentFailureError: the environment raised, or returned an invalid result.
        """
        self._action, self._resetting = action, False
        try:
            result = self._step(action)
        except (Exception, SystemExit) as error:
            raise self.raised(error) from error
        try:
            observation, reward, terminated, truncated, _ = result
        except (TypeError, ValueError):
            raise self.failure(
                "step must return (observation, reward, terminated, truncated, info), but returned "
                + _kind(result)
                + ("; the old API had no truncated" if _length(result) == 4 else "")
            ) from None
        if type(reward) is not float:
            reward = self._number(reward)
        if not -LARGEST <= reward <= LARGEST:
            raise self.failure(f"step returned the reward {reward}, which is not a finite float32")
        if type(terminated) is not bool:
            terminated = self._flag("terminated", terminated)
        if type(truncated) is not bool:
            truncated = self._flag("truncated", truncated)
        return observation, reward, terminated, truncated

    def check(self, observation: Any) -> None:
        """Check an observation against the observation space: shape, dtype kind, finiteness.

        Raises:
            EnvironmentFailureError: the observation does not fit the space.
        """
        if self._check is None:
            self._check = observation_checker(self.environment.observation_space)
        problem = self._check(observation)
        if problem:
            raise self.failure(problem)

    def describe_activity(self) -> str:
        """Describe what the copy is doing or did last."""
        seed = "no seed yet" if self.seed is None else f"seed {self.seed}"
        if self._resetting:
            return f"{self.name}, {seed}, no action yet"
        return f"{self.name}, {seed}, last action {brief(self._action)}"

    def failure(self, what: str) -> EnvironmentFailureError:
        """Make an error that says what was wrong and what the copy was doing."""
        return EnvironmentFailureError(f"the environment's {what} ({self.describe_activity()})")

    def raised(self, error: BaseException) -> BaseException:
        """Convert an exception from the environment to the error to raise."""
        if isinstance(error, PoiseError):
            return error
        call = "reset" if self._resetting else "step"
        return self.failure(f"{call} raised {type(error).__name__}: {one_line(error)}")

    def close(self) -> None:
        """Close the environment; see `close_environment`."""
        close_environment(self.environment)

    def _number(self, reward: Any) -> float:
        try:
            array = np.asarray(reward)
            if array.size == 1 and array.dtype.kind in "biuf":
                return float(array.reshape(-1)[0])
        except (TypeError, ValueError, OverflowError):
            pass
        raise self.failure(f"step must return a number as reward, but returned {brief(reward)}")

    def _flag(self, name: str, flag: Any) -> bool:
        if isinstance(flag, bool | np.bool_):
            return bool(flag)
        raise self.failure(f"step must return a bool as {name}, but returned {brief(flag)}")


def _length(result: Any) -> int:
    return len(result) if isinstance(result, tuple) else -1


def _kind(result: Any) -> str:
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}: ({', '.join(type(one).__name__ for one in result)})"
    return type(result).__name__
