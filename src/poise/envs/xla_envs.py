"""Worlds that offer XLA functions themselves: ale-py's vector environment (`AtariVectorEnv.xla`).

The emulators live outside XLA, which steps them by a foreign call: their handle, a pointer, is an
argument of the compiled cycle, never a constant in it, and whoever holds the handle must keep the
emulators alive. Their states are not available, so a rollout cannot be repeated.
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
from poise.envs.rollout import (
    Act,
    DrawNoise,
    FinishedEpisodes,
    RolloutState,
    Score,
    StepResult,
    first_state,
    roll_out,
    typed_key,
)
from poise.trajectory import Trajectory

__all__ = ["XlaEnvs", "offers_xla_functions"]

PLATFORM = "cpu"
"""ale-py's packages hold the functions for the CPU only."""


def offers_xla_functions(env_factory: EnvFactory) -> bool:
    """Whether an environment has XLA functions, here and now."""
    return (
        env_factory.is_plain
        and env_factory.is_atari
        and jax.default_backend() == PLATFORM
        and importlib.util.find_spec("chex") is not None
    )


@dataclasses.dataclass(frozen=True)
class XlaEnvs:
    """An environment that XLA steps by a foreign call, inside the worker's cycle.

    Attributes:
        env_factory: makes the environment itself.
        observation_space: of one copy.
        action_space: of one copy.
        shaping: what the loss sees of the rewards.
    """

    env_factory: EnvFactory
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    shaping: RewardShaping

    kind: ClassVar[WorldKind] = "xla"
    """What ``--world`` calls it."""
    holds_gil: ClassVar[bool] = False
    """Whether stepping keeps other Python threads from running."""
    is_pure: ClassVar[bool] = False
    """Whether a rollout is a function of its state: it can be repeated, and kept in a file."""

    @classmethod
    def open(cls, env_factory: EnvFactory, shaping: RewardShaping) -> "XlaEnvs":
        """Look at one copy for its spaces."""
        return cls(env_factory, *env_factory.spaces(), shaping)

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return self.env_factory.name

    def copies(self, count: int) -> AtariCopies:
        """N emulators, which can be stepped from Python, too."""
        copies: AtariCopies = make_atari_copies(
            self.env_factory.identity,
            self.env_factory.sticky_actions,
            count,
            self.observation_space,
        )
        return copies

    def initial_state(self, key: np.ndarray, copies: int, recurrent: Any) -> RolloutState:
        """A state of the right shapes, which no emulators belong to yet; see `begin`."""
        shape = self.observation_space.shape or ()
        observation = np.zeros((copies, *shape), self.observation_space.dtype)
        return first_state(key, copies, np.zeros(8, np.uint8), observation, recurrent)

    @staticmethod
    def begin(state: RolloutState, emulators: AtariCopies, seeds: Sequence[int]) -> RolloutState:
        """Reset emulators, each with its own seed, and put them into an initial state."""
        observation = emulators.reset(seeds)
        handle, _, _ = emulators.xla()
        return state._replace(environment=np.asarray(handle), observation=observation)

    def rollout(
        self,
        act: Act,
        score: Score,
        noise: DrawNoise,
        version: Any,
        state: RolloutState,
        length: int,
    ) -> tuple[Trajectory, FinishedEpisodes, RolloutState]:
        """Step N emulators ``length`` times. To be called inside a compiled function.

        Args:
            act: decides for one copy.
            score: says how probable the actions were.
            noise: draws the acting noise of the whole rollout.
            version: of the parameters that act; goes into the trajectory.
            state: from `begin` or the last rollout.
            length: T.
        """
        batch = length, state.ended.shape[0]
        acting = jax.random.fold_in(typed_key(state.key), state.cycle)
        # Traced once, with emulators of the same shapes, which are let go of again: only shapes are
        # in the function that steps them.
        emulators = self.copies(batch[1])
        _, _, step_emulators = emulators.xla()

        def step(handle: Any, actions: Any, ended: Any, elapsed: Any, drawn: Any) -> StepResult:
            del ended, elapsed, drawn  # the emulators reset and count by themselves
            handle, (observation, *outcome, _) = step_emulators(handle, actions.astype(jnp.int32))
            return StepResult(handle, observation, *outcome)

        try:
            draws = noise(acting, batch)
            return roll_out(step, act, score, version, state, draws, (), self.shaping)
        finally:
            emulators.close()
