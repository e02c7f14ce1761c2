"""Compiled environments: environments written in JAX, as pure functions.

An environment is one copy as a Gymnasium `FuncEnv` (``initial``, ``transition``, ``observation``,
``reward``, ``terminal``). This module adds vectorisation, next-step autoreset and a time limit.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

from poise.batching import keyed
from poise.config import WorldKind
from poise.envs.reward_shaping import RewardShaping
from poise.envs.seeding import typed_key
from poise.trajectory import StepResult

__all__ = ["Draws", "JaxEnvs"]


class Draws(NamedTuple):
    """The random numbers of T steps of N copies."""

    fresh: Any
    """State and observation ``[T, N, ...]`` that each copy gets if it is reset at a step."""
    keys: Any
    """``[T, N]`` keys for the transitions."""


@dataclasses.dataclass(frozen=True)
class JaxEnvs:
    """An environment that XLA compiles into the worker's cycle.

    Attributes:
        name: the id of the Gymnasium environment that it is a twin of.
        environment: one copy, as a `FuncEnv`.
        max_episode_steps: the time limit; None for no limit.
        shaping: changes to the rewards for the loss.
    """

    name: str
    environment: FuncEnv[Any, Any, Any, Any, Any, Any, Any]
    max_episode_steps: int | None
    shaping: RewardShaping = dataclasses.field(default_factory=RewardShaping)

    kind: ClassVar[WorldKind] = "compiled"
    """The kind's name in ``--world``."""
    holds_gil: ClassVar[bool] = False
    """Whether stepping keeps other Python threads from running."""
    is_pure: ClassVar[bool] = True
    """Whether a rollout depends only on its state, so that it can be repeated and checkpointed."""

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """The observation space of one copy."""
        return self.environment.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """The action space of one copy."""
        return self.environment.action_space

    def blank(self, copies: int) -> tuple[Any, Any]:
        """Return states and observations of zeros ``[N, ...]``, to be replaced by `reset`."""
        key = typed_key(jnp.zeros(2, "uint32"))

        def zeros(shape: jax.ShapeDtypeStruct) -> np.ndarray:
            return np.zeros((copies, *shape.shape), shape.dtype)

        blank: tuple[Any, Any] = jax.tree.map(zeros, jax.eval_shape(self._reset_one, key))
        return blank

    def draw(self, key: Any, batch: tuple[int, int]) -> tuple[Any, Draws]:
        """Return a key for acting, and the random numbers of ``[T, N]`` steps.

        Drawing all at once takes less time than drawing in every step.
        """
        acting, resetting, stepping = jax.random.split(key, 3)
        fresh = jax.vmap(jax.vmap(self._reset_one))(jax.random.split(resetting, batch))
        return acting, Draws(fresh, jax.random.split(stepping, batch))

    def start(self, keys: Any) -> tuple[Any, Any]:
        """Return states and observations ``[N, ...]`` of new episodes, from one key for each."""
        started: tuple[Any, Any] = jax.vmap(self._reset_one)(keys)
        return started

    def reset(self, environment: Any, observation: Any, draws: Draws) -> tuple[Any, Any]:
        """Return states and observations ``[N, ...]`` of new episodes."""
        del environment, observation
        environment, observation = jax.tree.map(lambda new: new[0], draws.fresh)
        return environment, observation

    def step(
        self, environment: Any, actions: Any, ended: Any, elapsed: Any, draws: Draws
    ) -> tuple[Any, StepResult]:
        """Step the copies; those whose episode has ended are reset instead."""
        limit = self.max_episode_steps
        following, observation, reward, terminated = jax.vmap(self._step_one)(
            environment, actions, ended, *draws
        )
        truncated = jnp.zeros_like(ended) if limit is None else elapsed >= limit
        reward = jnp.asarray(reward, jnp.float32)
        return following, StepResult(observation, reward, terminated, truncated)

    def _reset_one(self, key: Any) -> tuple[Any, Any]:
        environment = self.environment
        state = environment.initial(key)
        return state, keyed(self.observation_space, environment.observation(state, key))

    def _step_one(
        self, state: Any, action: Any, ended: Any, fresh: Any, key: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Step one copy, or reset it if its episode has ended."""
        environment = self.environment
        following = environment.transition(state, action, key)
        reward = environment.reward(state, action, following, key)
        terminated = environment.terminal(following, key)
        observation = keyed(self.observation_space, environment.observation(following, key))
        following, observation = jax.tree.map(
            lambda new, old: jnp.where(ended, new, old), fresh, (following, observation)
        )
        return following, observation, reward, terminated
