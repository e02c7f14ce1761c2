"""Compiled environments: environments written in JAX, as pure functions.

Environments are Gymnasium's `FuncEnv` (``initial``, ``transition``, ``observation``, ``reward``,
``terminal``), one copy each; the rollout vectorises, resets (next-step autoreset) and counts the
time limit, which a `FuncEnv` does not have.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

from poise.batching import keyed
from poise.config import WorldKind
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

__all__ = ["JaxEnvs"]


@dataclasses.dataclass(frozen=True)
class JaxEnvs:
    """An environment that XLA compiles into the worker's cycle.

    Attributes:
        name: the Gymnasium id that it is a twin of.
        environment: one copy, as a `FuncEnv`.
        max_episode_steps: the time limit, None for none.
        shaping: what the loss sees of the rewards.
    """

    name: str
    environment: FuncEnv[Any, Any, Any, Any, Any, Any, Any]
    max_episode_steps: int | None
    shaping: RewardShaping = dataclasses.field(default_factory=RewardShaping)

    kind: ClassVar[WorldKind] = "compiled"
    """What ``--world`` calls it."""
    holds_gil: ClassVar[bool] = False
    """Whether stepping keeps other Python threads from running."""
    is_pure: ClassVar[bool] = True
    """Whether a rollout is a function of its state: it can be repeated, and kept in a file."""

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Of one copy."""
        return self.environment.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Of one copy."""
        return self.environment.action_space

    def initial_state(self, key: np.ndarray, copies: int, recurrent: Any) -> RolloutState:
        """The state before the first rollout, inside which its environments are reset."""
        one_state, one_observation = jax.eval_shape(
            self._reset_one, typed_key(jnp.zeros(2, "uint32"))
        )

        def zeros(shape: jax.ShapeDtypeStruct) -> np.ndarray:
            return np.zeros((copies, *shape.shape), shape.dtype)

        environment, observation = jax.tree.map(zeros, (one_state, one_observation))
        return first_state(key, copies, environment, observation, recurrent)

    def rollout(
        self,
        act: Act,
        score: Score,
        noise: DrawNoise,
        version: Any,
        state: RolloutState,
        length: int,
    ) -> tuple[Trajectory, FinishedEpisodes, RolloutState]:
        """Step N copies ``length`` times. Pure: to be called inside a compiled function.

        Args:
            act: decides for one copy.
            score: says how probable the actions were.
            noise: draws the acting noise of the whole rollout.
            version: of the parameters that act; goes into the trajectory.
            state: from `initial_state` or the last rollout.
            length: T.
        """
        batch = length, state.ended.shape[0]
        key = jax.random.fold_in(typed_key(state.key), state.cycle)
        acting, resetting, stepping = jax.random.split(key, 3)
        # All randomness is drawn at once: one vectorised generator instead of one in every step.
        fresh = jax.vmap(jax.vmap(self._reset_one))(jax.random.split(resetting, batch))
        keys = jax.random.split(stepping, batch)
        starting = state.cycle == 0
        environment, observation = jax.tree.map(
            lambda new, old: jnp.where(starting, new[0], old),
            fresh,
            (state.environment, state.observation),
        )
        state = state._replace(environment=environment, observation=observation)
        draws = noise(acting, batch)
        return roll_out(self._step, act, score, version, state, draws, (fresh, keys), self.shaping)

    def _reset_one(self, key: Any) -> tuple[Any, Any]:
        environment = self.environment
        state = environment.initial(key)
        return state, keyed(self.observation_space, environment.observation(state, key))

    def _step(self, states: Any, actions: Any, ended: Any, elapsed: Any, drawn: Any) -> StepResult:
        fresh, keys = drawn
        limit = self.max_episode_steps
        outcome = jax.vmap(self._step_one)(states, actions, ended, fresh, keys)
        truncated = jnp.zeros_like(ended) if limit is None else elapsed >= limit
        return StepResult(*outcome, truncated)

    def _step_one(
        self, state: Any, action: Any, ended: Any, fresh: Any, key: Any
    ) -> tuple[Any, Any, Any, Any]:
        """One step of one copy; a copy that has ended is reset instead."""
        environment = self.environment
        following = environment.transition(state, action, key)
        reward = environment.reward(state, action, following, key)
        terminated = environment.terminal(following, key)
        observation = keyed(self.observation_space, environment.observation(following, key))
        following, observation = jax.tree.map(
            lambda new, old: jnp.where(ended, new, old), fresh, (following, observation)
        )
        return following, observation, reward, terminated
