"""Host environments: Gymnasium environments stepped from Python, with next-step autoreset.

Either a vector implementation of an environment, or a loop over copies of it, whose errors name the
copy that failed, its seed and its last action.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium import spaces

from poise.batching import unbatch_all
from poise.envs.atari import make_atari_copies
from poise.envs.checked_env import CheckedEnv
from poise.envs.env_factory import EnvFactory
from poise.envs.envpool_copies import make_envpool_copies
from poise.envs.observations import batch_checker
from poise.envs.reward_shaping import RewardShaping
from poise.envs.vector_env import make_vector_copies
from poise.trajectory import StepResult

__all__ = ["Copies", "HostEnvs", "HostedKind", "open_loop"]

HostedKind = Literal["atari", "envpool", "vector", "copies"]


@runtime_checkable
class Copies(Protocol):
    """N copies of an environment that are stepped together, with next-step autoreset."""

    def reset(self, seeds: Sequence[int]) -> Any:
        """Reset all copies, each with its own seed; returns observations ``[N, ...]``."""

    def step(self, actions: Any) -> StepResult:
        """Step all copies; a copy whose episode has ended is reset instead."""

    def describe_activity(self) -> str:
        """Describe what is being stepped or was stepped last: copy, seed and last action."""

    def close(self) -> None:
        """Close the environments."""


@dataclasses.dataclass(frozen=True)
class HostEnvs:
    """An environment that is stepped from Python.

    Attributes:
        env_factory: makes copies of the environment.
        kind: ``atari`` (ale-py's vector environment), ``envpool`` (EnvPool's C++ environments),
            ``vector`` (the environment's registered vector implementation) or ``copies`` (a loop).
        observation_space: observation space of one copy.
        action_space: action space of one copy.
        shaping: changes to the rewards for the loss.
    """

    env_factory: EnvFactory
    kind: HostedKind
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    shaping: RewardShaping

    is_pure: ClassVar[bool] = False
    """Whether a rollout depends only on its state, so that it can be repeated and checkpointed."""

    @classmethod
    def open(cls, env_factory: EnvFactory, kind: HostedKind, shaping: RewardShaping) -> "HostEnvs":
        """Create this from a factory; makes a copy if its spaces are not known yet."""
        return cls(env_factory, kind, *env_factory.spaces(), shaping)

    @property
    def name(self) -> str:
        """The environment's name, as the user wrote it."""
        return self.env_factory.name

    @property
    def holds_gil(self) -> bool:
        """Whether stepping keeps other Python threads from running."""
        return self.kind not in ("atari", "envpool")

    def copies(self, count: int) -> Copies:
        """Make N copies."""
        if self.kind == "copies":
            return open_loop(self.env_factory, count)
        if self.kind == "atari":
            copies: Copies = make_atari_copies(
                self.env_factory.identity,
                self.env_factory.sticky_actions,
                count,
                self.observation_space,
            )
            return copies
        if self.kind == "envpool":
            return make_envpool_copies(self.env_factory, count)
        return make_vector_copies(self.env_factory, count, self.observation_space)


class _Loop:
    """Copies of a Python environment, stepped one after the other."""

    def __init__(self, environments: list[gymnasium.Env[Any, Any]]) -> None:
        self._copies = [
            CheckedEnv(one, f"copy {number}") for number, one in enumerate(environments)
        ]
        self._action_space = environments[0].action_space
        self._stack = batch_checker(environments[0].observation_space)
        self._ended = [False] * len(environments)
        self._now: CheckedEnv = self._copies[0]

    def reset(self, seeds: Sequence[int]) -> Any:
        observations = []
        for copy, seed in zip(self._copies, seeds, strict=True):
            self._now = copy
            observations.append(copy.reset(int(seed)))
        self._ended = [False] * len(self._copies)
        return self._checked(observations)

    def step(self, actions: Any) -> StepResult:
        count = len(self._copies)
        observations, rewards = [], [0.0] * count
        terminated, truncated = [False] * count, [False] * count
        separate = unbatch_all(actions, self._action_space, count)
        for number, copy in enumerate(self._copies):
            self._now = copy
            if self._ended[number]:
                observations.append(copy.reset())
                continue
            observation, rewards[number], terminated[number], truncated[number] = copy.step(
                separate[number]
            )
            observations.append(observation)
        self._ended = [one or other for one, other in zip(terminated, truncated, strict=True)]
        return StepResult(
            self._checked(observations),
            np.array(rewards, np.float64),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
        )

    def describe_activity(self) -> str:
        return self._now.describe_activity()

    def close(self) -> None:
        # Popped first: if closing one copy is interrupted, a second call closes the others.
        while self._copies:
            self._copies.pop(0).close()

    def _checked(self, observations: list[Any]) -> Any:
        batch = self._stack(observations)
        if batch is None:
            for copy, observation in zip(self._copies, observations, strict=True):
                copy.check(observation)
        return batch


def open_loop(env_factory: EnvFactory, count: int) -> Copies:
    """Make copies of any environment, to be stepped in a loop."""
    environments: list[gymnasium.Env[Any, Any]] = []
    try:
        for _ in range(count):
            environments.append(env_factory.make())
        return _Loop(environments)
    except BaseException:
        # Close the copies that have been made.
        for one in environments:
            CheckedEnv(one, "one that is not needed").close()
        raise
