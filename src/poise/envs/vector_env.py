"""An environment's registered vector implementation, with the same checks as a single copy."""

import contextlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from poise.batching import as_typed, keyed
from poise.envs.checked_env import LARGEST
from poise.envs.env_factory import EnvFactory, without_deprecations
from poise.envs.observations import brief, observation_checker, one_line
from poise.errors import EnvironmentFailureError, UnsupportedSpaceError
from poise.trajectory import StepResult

__all__ = ["VectorCopies", "make_vector_copies"]


def make_vector_copies(
    env_factory: EnvFactory, count: int, expected: spaces.Space[Any]
) -> "VectorCopies":
    """Make N copies in an environment's vector implementation.

    Args:
        env_factory: factory of a registered environment that has a vector implementation.
        count: N.
        expected: the observation space of the environment itself.

    Raises:
        UnsupportedSpaceError: the vector implementation does not match the environment itself.
        EnvironmentFailureError: the vector implementation cannot be made.
    """
    try:
        with without_deprecations():
            vector = gymnasium.make_vec(
                env_factory.identity, count, vectorization_mode="vector_entry_point"
            )
    except (Exception, SystemExit) as error:
        raise EnvironmentFailureError(
            f"the vector implementation of {env_factory.name} cannot be made: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    return VectorCopies(vector, expected)


class VectorCopies:
    """A Gymnasium vector environment, whose results are checked.

    Args:
        vector: the vector environment.
        expected: the observation space of the environment itself.
        a_seed_each: whether the vector environment takes a list of seeds; otherwise it is given one
            and derives the others.

    Raises:
        UnsupportedSpaceError: the vector environment does not have next-step autoreset, or has
            another observation space than the environment itself.
    """

    def __init__(
        self,
        vector: gymnasium.vector.VectorEnv[Any, Any, Any],
        expected: spaces.Space[Any],
        a_seed_each: bool = False,
    ) -> None:
        mode = vector.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            vector.close()
            raise UnsupportedSpaceError(
                f"the vector environment {vector} resets in mode {mode}; poise needs next-step "
                "autoreset, because otherwise the last observation of an episode is lost: use "
                "--world copies to step the environment itself"
            )
        if vector.single_observation_space != expected:
            vector.close()
            raise UnsupportedSpaceError(
                f"the vector environment observes {vector.single_observation_space}, but the "
                f"environment itself observes {expected}: use --world copies to step that"
            )
        self.vector = vector
        self._check = observation_checker(vector.observation_space)
        self._a_seed_each = a_seed_each
        self._seed: Any = None
        self._actions: Any = None

    def reset(self, seeds: Sequence[int]) -> Any:
        """Reset all copies with their seeds, or with those derived from the first one."""
        each = [int(seed) for seed in seeds]
        self._seed, self._actions = each if self._a_seed_each else each[0], None
        try:
            observations, _ = self.vector.reset(seed=self._seed)
        except (Exception, SystemExit) as error:
            raise self._raised("reset", error) from error
        return self._checked(observations)

    def step(self, actions: Any) -> StepResult:
        """Step all copies."""
        self._actions = actions
        try:
            result = self.vector.step(as_typed(actions, self.vector.action_space))
        except (Exception, SystemExit) as error:
            raise self._raised("step", error) from error
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._failure(
                "step must return (observations, rewards, terminated, truncated, infos), but "
                f"returned {brief(result)}"
            )
        observations, rewards, terminated, truncated, _ = result
        return StepResult(
            self._checked(observations),
            self._column("rewards", rewards, np.float64),
            self._column("terminated", terminated, np.bool_),
            self._column("truncated", truncated, np.bool_),
        )

    def describe_activity(self) -> str:
        """Describe what is being stepped or was stepped last."""
        where = f"{self.vector.num_envs} copies in one vector environment, seed {self._seed}"
        if self._actions is None:
            return f"{where}, no action yet"
        return f"{where}, last actions {brief(self._actions)}"

    def close(self) -> None:
        """Close the environment; an error on closing must not hide the reason for closing."""
        with contextlib.suppress(Exception):
            self.vector.close()

    def _checked(self, observations: Any) -> Any:
        problem = self._check(observations)
        if problem:
            raise self._failure(problem)
        return keyed(self.vector.observation_space, observations)

    def _column(self, name: str, values: Any, dtype: Any) -> np.ndarray:
        """Check and convert an array of one number or flag per copy."""
        column = np.asarray(values)
        kinds = "b" if dtype is np.bool_ else "biuf"
        if column.shape != (self.vector.num_envs,) or column.dtype.kind not in kinds:
            raise self._failure(f"step returned {brief(values)} as {name}")
        if dtype is np.bool_:
            return column
        if not (np.abs(column.astype(np.float64)) <= LARGEST).all():
            raise self._failure(f"step returned {brief(values)} as {name}, not finite float32")
        return column.astype(dtype)

    def _failure(self, what: str) -> EnvironmentFailureError:
        return EnvironmentFailureError(
            f"the vector environment's {what} ({self.describe_activity()})"
        )

    def _raised(self, call: str, error: BaseException) -> EnvironmentFailureError:
        return self._failure(f"{call} raised {type(error).__name__}: {one_line(error)}")
