"""Hosted worlds: Gymnasium environments stepped from Python, with next-step autoreset.

Either Gymnasium's vector implementation of an environment, or copies of it in a loop that says
which copy failed, with which seed, at which action.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import gymnasium
import jax
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from poise.batches import stack, unbatch_all
from poise.errors import EnvironmentFailureError, UnsupportedSpaceError
from poise.world.atari import make_atari_copies
from poise.world.rewards import RewardShaping
from poise.world.source import EnvironmentSource, without_deprecations

__all__ = ["Copies", "HostedKind", "HostedWorld", "StepResult", "open_loop"]

HostedKind = Literal["atari", "vector", "copies"]
StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray]
"""Observations ``[N, ...]``, float64 rewards ``[N]``, bool terminated and truncated ``[N]``."""


@runtime_checkable
class Copies(Protocol):
    """N copies of an environment that are stepped together, with next-step autoreset."""

    def reset(self, seeds: Sequence[int]) -> Any:
        """Begin anew, each copy with its own seed; returns observations ``[N, ...]``."""

    def step(self, actions: Any) -> StepResult:
        """Step all copies; one whose episode had ended is reset instead."""

    def close(self) -> None:
        """Close the environments."""


@dataclasses.dataclass(frozen=True)
class HostedWorld:
    """An environment that Python steps.

    Attributes:
        source: makes copies.
        kind: ``atari`` (ale-py's vector environment), ``vector`` (Gymnasium's own vector
            implementation) or ``copies`` (a loop).
        observation_space: of one copy.
        action_space: of one copy.
        shaping: what the loss sees of the rewards.
    """

    source: EnvironmentSource
    kind: HostedKind
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    shaping: RewardShaping

    @classmethod
    def open(
        cls, source: EnvironmentSource, kind: HostedKind, shaping: RewardShaping
    ) -> "HostedWorld":
        """Look at one copy for its spaces."""
        return cls(source, kind, *source.spaces(), shaping)

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return self.source.name

    @property
    def holds_gil(self) -> bool:
        """Whether stepping keeps other Python threads from running."""
        return self.kind != "atari"

    @property
    def is_pure(self) -> bool:
        """Whether a rollout is a function of its state: it can be repeated, and kept in a file."""
        return False

    def copies(self, count: int) -> Copies:
        """Make N copies."""
        if self.kind == "copies":
            return _Loop([self.source.make() for _ in range(count)])
        if self.kind == "atari":
            copies: Copies = make_atari_copies(
                self.source.name, self.source.sticky_actions, count, self.observation_space
            )
            return copies
        with without_deprecations():
            vector = gymnasium.make_vec(
                self.source.identity, count, vectorization_mode="vector_entry_point"
            )
        return VectorCopies(vector, self.observation_space)


class VectorCopies:
    """A Gymnasium vector environment.

    Raises:
        UnsupportedSpaceError: it does not reset at the step after an end, or shows something else
            than the environment itself.
    """

    def __init__(
        self, vector: gymnasium.vector.VectorEnv[Any, Any, Any], expected: spaces.Space[Any]
    ) -> None:
        mode = vector.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            vector.close()
            raise UnsupportedSpaceError(
                f"the vector environment {vector} resets in mode {mode}; poise needs next-step "
                "autoreset, or the true successor of a last step would be lost"
            )
        if vector.single_observation_space != expected:
            vector.close()
            raise UnsupportedSpaceError(
                f"the vector environment observes {vector.single_observation_space}, but the "
                f"environment itself {expected}"
            )
        self._vector = vector

    def reset(self, seeds: Sequence[int]) -> Any:
        """Reset; the vector environment derives its copies' randomness from the first seed."""
        return self._vector.reset(seed=int(seeds[0]))[0]

    def step(self, actions: Any) -> StepResult:
        """Step all copies."""
        observations, rewards, terminated, truncated, _ = self._vector.step(actions)
        if not np.all(np.isfinite(rewards)):
            raise EnvironmentFailureError(
                f"the environment returned the rewards {rewards} (last actions {actions})"
            )
        for leaf in jax.tree.leaves(observations):
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                raise EnvironmentFailureError(
                    f"the environment's observations are not finite: {_brief(leaf)} "
                    f"(last actions {actions})"
                )
        return observations, np.asarray(rewards, np.float64), terminated, truncated

    def close(self) -> None:
        """Close the environment."""
        self._vector.close()


class _Loop:
    """Copies of a Python environment, stepped one after the other."""

    def __init__(self, environments: list[gymnasium.Env[Any, Any]]) -> None:
        self._environments = environments
        self._space = environments[0].observation_space
        self._action_space = environments[0].action_space
        count = len(environments)
        self._seeds: list[int] = [0] * count
        self._ended = [False] * count
        self._observations: list[Any] = [None] * count
        self._checks = observation_checker(self._space)

    def reset(self, seeds: Sequence[int]) -> Any:
        self._seeds = [int(seed) for seed in seeds]
        for copy, environment in enumerate(self._environments):
            seed = self._seeds[copy]
            try:
                observation = environment.reset(seed=seed)[0]
            except (Exception, SystemExit) as error:
                raise self._failure("reset raised", error, copy, None) from error
            self._observations[copy] = self._checked(observation, copy, None)
            self._ended[copy] = False
        return self._stack()

    def step(self, actions: Any) -> StepResult:
        count = len(self._environments)
        rewards = np.zeros(count, np.float64)
        terminated = np.zeros(count, np.bool_)
        truncated = np.zeros(count, np.bool_)
        separate = unbatch_all(actions, self._action_space, count)
        for copy, environment in enumerate(self._environments):
            if self._ended[copy]:
                self._reset_one(copy, environment)
                continue
            action = separate[copy]
            try:
                observation, reward, is_terminated, is_truncated, _ = environment.step(action)
                rewards[copy] = np.asarray(reward).item()
                terminated[copy], truncated[copy] = is_terminated, is_truncated
            except (Exception, SystemExit) as error:
                raise self._failure("step raised", error, copy, action) from error
            if not -np.inf < rewards[copy] < np.inf:
                raise self._failure(f"step returned the reward {reward}", None, copy, action)
            self._observations[copy] = self._checked(observation, copy, action)
            self._ended[copy] = bool(is_terminated or is_truncated)
        return self._stack(), rewards, terminated, truncated

    def close(self) -> None:
        # One that cannot be closed must not keep the others open, nor hide why the run ended.
        for environment in self._environments:
            with contextlib.suppress(Exception):
                environment.close()

    def _reset_one(self, copy: int, environment: gymnasium.Env[Any, Any]) -> None:
        try:
            observation = environment.reset()[0]
        except (Exception, SystemExit) as error:
            raise self._failure("reset raised", error, copy, None) from error
        self._observations[copy] = self._checked(observation, copy, None)
        self._ended[copy] = False

    def _stack(self) -> Any:
        return stack(self._space, self._observations)

    def _checked(self, observation: Any, copy: int, action: Any) -> Any:
        problem = self._checks(observation)
        if problem:
            raise self._failure(problem, None, copy, action)
        return observation

    def _failure(
        self, what: str, error: BaseException | None, copy: int, action: Any
    ) -> EnvironmentFailureError:
        text = " ".join(str(error).split())
        detail = "" if error is None else f" {type(error).__name__}: {text}"
        hint = ""
        if isinstance(error, ValueError) and "unpack" in str(error):
            hint = (
                "; step must return (observation, reward, terminated, truncated, info), and "
                "reset (observation, info)"
            )
        last = "no action yet" if action is None else f"last action {action!r}"
        return EnvironmentFailureError(
            f"the environment's {what}{detail} (copy {copy}, seed {self._seeds[copy]}, {last})"
            + hint
        )


def open_loop(source: EnvironmentSource, count: int) -> Copies:
    """Copies in a loop, whatever the environment."""
    return _Loop([source.make() for _ in range(count)])


def observation_checker(space: spaces.Space[Any]) -> Any:
    """A quick check of one observation: (observation) -> what is wrong with it, or None.

    Shape, dtype kind and finiteness, not bounds: many environments leave theirs.
    """
    match space:
        case spaces.Dict():
            parts = {key: observation_checker(one) for key, one in space.items()}

            def check_dict(observation: Any) -> str | None:
                if not isinstance(observation, dict) or observation.keys() != parts.keys():
                    return f"observation {_brief(observation)} is no dict with keys {list(parts)}"
                problems = (check(observation[key]) for key, check in parts.items())
                return next((problem for problem in problems if problem), None)

            return check_dict
        case spaces.Tuple():
            checks = [observation_checker(one) for one in space]

            def check_tuple(observation: Any) -> str | None:
                if not isinstance(observation, tuple) or len(observation) != len(checks):
                    return f"observation {_brief(observation)} is no tuple of {len(checks)}"
                pairs = zip(checks, observation, strict=True)
                problems = (check(one) for check, one in pairs)
                return next((problem for problem in problems if problem), None)

            return check_tuple
    shape, dtype = space.shape or (), np.dtype(space.dtype)
    floats = dtype.kind == "f"

    def check(observation: Any) -> str | None:
        array = np.asarray(observation)
        if array.shape != shape:
            return f"observation has shape {array.shape}, but its space says {shape}"
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            return f"observation has dtype {array.dtype}, but its space says {dtype}"
        if floats and not np.isfinite(array).all():
            return f"observation is not finite: {_brief(observation)}"
        return None

    return check


def _brief(observation: Any) -> str:
    text = repr(observation)
    return text if len(text) <= 200 else text[:200] + "..."
