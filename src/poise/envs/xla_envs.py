"""Environments with XLA functions of their own: ale-py's vector environment (`AtariVectorEnv.xla`).

The emulators exist outside XLA, which steps them by a foreign function call. Their handle, a
pointer, is an argument of the compiled cycle, never a constant in it, and the holder of the handle
must keep the emulators alive. Their states are not available, so a rollout cannot be repeated.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from poise.config import WorldKind
from poise.envs.atari import AtariCopies, make_atari_copies
from poise.envs.env_factory import EnvFactory
from poise.envs.reward_shaping import RewardShaping
from poise.trajectory import StepResult

__all__ = ["XlaEnvs", "offers_xla_functions"]

PLATFORM = "cpu"
"""The only platform that ale-py's packages have XLA functions for."""


def offers_xla_functions(env_factory: EnvFactory) -> bool:
    """Return whether an environment has XLA functions on this machine."""
    return (
        env_factory.is_plain
        and env_factory.is_atari
        and jax.default_backend() == PLATFORM
        and importlib.util.find_spec("chex") is not None
    )


@dataclasses.dataclass(frozen=True)
class XlaEnvs:
    """An environment that XLA steps by a foreign function call, inside the worker's cycle.

    Attributes:
        env_factory: makes the environment itself.
        observation_space: observation space of one copy.
        action_space: action space of one copy.
        shaping: changes to the rewards for the loss.
    """

    env_factory: EnvFactory
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    shaping: RewardShaping

    kind: ClassVar[WorldKind] = "xla"
    """The kind's name in ``--world``."""
    holds_gil: ClassVar[bool] = False
    """Whether stepping keeps other Python threads from running."""
    is_pure: ClassVar[bool] = False
    """Whether a rollout depends only on its state, so that it can be repeated and checkpointed."""

    @classmethod
    def open(cls, env_factory: EnvFactory, shaping: RewardShaping) -> "XlaEnvs":
        """Create this from a factory; makes a copy if its spaces are not known yet."""
        return cls(env_factory, *env_factory.spaces(), shaping)

    @property
    def name(self) -> str:
        """The environment's name, as the user wrote it."""
        return self.env_factory.name

    def copies(self, count: int) -> AtariCopies:
        """Make N emulators, which can also be stepped from Python."""
        copies: AtariCopies = make_atari_copies(
            self.env_factory.identity,
            self.env_factory.sticky_actions,
            count,
            self.observation_space,
        )
        return copies

    def blank(self, copies: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a handle and observations of zeros, with the right shapes but no emulators."""
        shape = self.observation_space.shape or ()
        observation = np.zeros((copies, *shape), self.observation_space.dtype)
        return np.zeros(8, np.uint8), observation

    @staticmethod
    def start(emulators: AtariCopies, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Reset emulators, each with its own seed; returns handle and observations ``[N, ...]``."""
        observation = emulators.reset(seeds)
        handle, _, _ = emulators.xla()
        return np.asarray(handle), observation

    def draw(self, key: Any, batch: tuple[int, int]) -> tuple[Any, Any]:
        """Return a key for acting; the emulators have their own generators."""
        del batch
        return key, ()

    def reset(self, environment: Any, observation: Any, draws: Any) -> tuple[Any, Any]:
        """Return handle and observations unchanged, because `start` has reset the emulators."""
        del draws
        return environment, observation

    def step(
        self, environment: Any, actions: Any, ended: Any, elapsed: Any, draws: Any
    ) -> tuple[Any, StepResult]:
        """Step the emulators of a handle, which reset and count by themselves."""
        del elapsed, draws
        # Traced with temporary emulators of the same number: the step function depends only on
        # shapes.
        emulators = self.copies(ended.shape[0])
        try:
            _, _, step_emulators = emulators.xla()
            handle, (observation, reward, *flags, _) = step_emulators(
                environment, actions.astype(jnp.int32)
            )
        finally:
            emulators.close()
        return handle, StepResult(observation, jnp.asarray(reward, jnp.float32), *flags)
