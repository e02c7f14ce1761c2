"""Hosted environments: Gymnasium environments stepped from Python, with next-step autoreset.

Either Gymnasium's vector implementation of an environment, or copies of it in a loop that says
which copy failed, with which seed, at which action.
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
from poise.envs.observations import batch_checker
from poise.envs.reward_shaping import RewardShaping
from poise.envs.vector_env import make_vector_copies
from poise.trajectory import StepResult

__all__ = ["Copies", "HostEnvs", "HostedKind", "open_loop"]

HostedKind = Literal["atari", "vector", "copies"]


@runtime_checkable
class Copies(Protocol):
    """N copies of an environment that are stepped together, with next-step autoreset."""

    def reset(self, seeds: Sequence[int]) -> Any:
        """Begin anew, each copy with its own seed; returns observations ``[N, ...]``."""

    def step(self, actions: Any) -> StepResult:
        """Step all copies; one whose episode had ended is reset instead."""

    def describe_activity(self) -> str:
        """What is being stepped, or was last: which copy, its seed, the last action."""

    def close(self) -> None:
        """Close the environments."""


@dataclasses.dataclass(frozen=True)
class HostEnvs:
    """An environment that Python steps.

    Attributes:
        env_factory: makes copies.
        kind: ``atari`` (ale-py's vector environment), ``vector`` (Gymnasium's own vector
            implementation) or ``copies`` (a loop).
        observation_space: of one copy.
        action_space: of one copy.
        shaping: what the loss sees of the rewards.
    """

    env_factory: EnvFactory
    kind: HostedKind
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    shaping: RewardShaping

    is_pure: ClassVar[bool] = False
    """Whether a rollout is a function of its state: it can be repeated, and kept in a file."""

    @classmethod
    def open(cls, env_factory: EnvFactory, kind: HostedKind, shaping: RewardShaping) -> "HostEnvs":
        """Look at one copy for its spaces."""
        return cls(env_factory, kind, *env_factory.spaces(), shaping)

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return self.env_factory.name

    @property
    def holds_gil(self) -> bool:
        """Whether stepping keeps other Python threads from running."""
        return self.kind != "atari"

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
        # One whose closing is interrupted does not keep the others from being closed later.
        while self._copies:
            self._copies.pop(0).close()

    def _checked(self, observations: list[Any]) -> Any:
        batch = self._stack(observations)
        if batch is None:
            for copy, observation in zip(self._copies, observations, strict=True):
                copy.check(observation)
        return batch


def open_loop(env_factory: EnvFactory, count: int) -> Copies:
    """Copies in a loop, whatever the environment."""
    environments: list[gymnasium.Env[Any, Any]] = []
    try:
        for _ in range(count):
            environments.append(env_factory.make())
        return _Loop(environments)
    except BaseException:
        # Those that could be made are closed like any other.
        for one in environments:
            CheckedEnv(one, "one that is not needed").close()
        raise
