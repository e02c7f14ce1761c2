"""Environments with XLA functions of their own: ale-py's and EnvPool's vector environments.

The copies exist outside XLA, which steps them by a foreign function call. Their handle, a pointer,
is an argument of the compiled cycle, never a constant in it, and the holder of the handle must keep
the copies alive. Their states are not available, so a rollout cannot be repeated.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import jax
import numpy as np
from gymnasium import spaces

from poise.envs.atari import make_atari_copies
from poise.envs.env_factory import EnvFactory
from poise.envs.envpool_copies import make_envpool_copies
from poise.envs.host_envs import Copies
from poise.envs.reward_shaping import RewardShaping
from poise.trajectory import StepResult

__all__ = ["XlaCopies", "XlaEnvs", "XlaKind", "offers_xla_functions"]

PLATFORM = "cpu"
"""The only platform that ale-py's packages have XLA functions for."""

XlaKind = Literal["xla", "envpool"]


def offers_xla_functions(env_factory: EnvFactory) -> bool:
    """Return whether ale-py has XLA functions for an environment on this machine."""
    return (
        env_factory.is_plain
        and env_factory.is_atari
        and jax.default_backend() == PLATFORM
        and importlib.util.find_spec("chex") is not None
    )


@runtime_checkable
class XlaCopies(Copies, Protocol):
    """N copies of an environment that XLA, too, can step: through their handle."""

    def handle(self) -> np.ndarray:
        """Return the handle of these copies, ``[8]`` uint8; valid after `reset`."""

    def step_in_xla(self, handle: Any, actions: Any) -> tuple[Any, StepResult]:
        """Step the copies of a handle, inside a compiled function.

        The function works with the handle of any N copies of the environment.
        """


@dataclasses.dataclass(frozen=True)
class XlaEnvs:
    """An environment that XLA steps by a foreign function call, inside the worker's cycle.

    Attributes:
        env_factory: makes the environment itself.
        kind: the kind's name in ``--world``: ``xla`` (ale-py) or ``envpool``.
        observation_space: observation space of one copy.
        action_space: action space of one copy.
        shaping: changes to the rewards for the loss.
    """

    env_factory: EnvFactory
    kind: XlaKind
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    shaping: RewardShaping

    holds_gil: ClassVar[bool] = False
    """Whether stepping keeps other Python threads from running."""
    is_pure: ClassVar[bool] = False
    """Whether a rollout depends only on its state, so that it can be repeated and checkpointed."""

    @classmethod
    def open(cls, env_factory: EnvFactory, kind: XlaKind, shaping: RewardShaping) -> "XlaEnvs":
        """Create this from a factory; makes a copy if its spaces are not known yet."""
        return cls(env_factory, kind, *env_factory.spaces(), shaping)

    @property
    def name(self) -> str:
        """The environment's name, as the user wrote it."""
        return self.env_factory.name

    def copies(self, count: int) -> XlaCopies:
        """Make N copies."""
        if self.kind == "envpool":
            return make_envpool_copies(self.env_factory, count)
        copies: XlaCopies = make_atari_copies(
            self.env_factory.identity,
            self.env_factory.sticky_actions,
            count,
            self.observation_space,
        )
        return copies

    def blank(self, copies: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a handle and observations of zeros, with the right shapes but no environments."""
        shape = self.observation_space.shape or ()
        dtype = jax.dtypes.canonicalize_dtype(self.observation_space.dtype)
        return np.zeros(8, np.uint8), np.zeros((copies, *shape), dtype)

    @staticmethod
    def start(copies: XlaCopies, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Reset copies, each with its own seed; returns handle and observations ``[N, ...]``."""
        observation = np.asarray(copies.reset(seeds))
        dtype = jax.dtypes.canonicalize_dtype(observation.dtype)
        return copies.handle(), observation.astype(dtype)

    def draw(self, key: Any, batch: tuple[int, int]) -> tuple[Any, Any]:
        """Return a key for acting; the environments have their own generators."""
        del batch
        return key, ()

    def reset(self, environment: Any, observation: Any, draws: Any) -> tuple[Any, Any]:
        """Return handle and observations unchanged, because `start` has reset the copies."""
        del draws
        return environment, observation

    def step(
        self, environment: Any, actions: Any, ended: Any, elapsed: Any, draws: Any
    ) -> tuple[Any, StepResult]:
        """Step the copies of a handle, which reset and count by themselves."""
        del elapsed, draws
        # Traced with temporary copies of the same number, on which the function does not depend.
        copies = self.copies(ended.shape[0])
        try:
            return copies.step_in_xla(environment, actions)
        finally:
            copies.close()
