"""Compiled worlds: rollouts of environments written in JAX, as pure functions.

Environments are Gymnasium's `FuncEnv` (``initial``, ``transition``, ``observation``, ``reward``,
``terminal``), one copy each; the rollout vectorises, resets (next-step autoreset) and counts the
time limit, which a `FuncEnv` does not have.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

from poise.trajectory import Decision, Trajectory
from poise.world.rewards import RewardShaping

__all__ = ["CompiledWorld", "FinishedEpisodes", "RolloutState"]

Act = Callable[[Any, Any, Any, Any], Decision]
"""(observation, recurrent state, first, noise) of one copy -> Decision."""


class RolloutState(NamedTuple):
    """Everything that a worker carries from one cycle to the next; leading axis N copies."""

    key: Any
    """``[2]`` uint32: key data; the cycle's randomness is ``fold_in(key, cycle)``."""
    cycle: Any
    """int32 scalar: rollouts done. At 0 the copies are reset before the first step."""
    environment: Any
    """Pytree of ``[N, ...]``: the environments' states."""
    observation: Any
    """Pytree of ``[N, ...]``: the current observations."""
    ended: Any
    """``[N]`` bool: the next step only resets."""
    first: Any
    """``[N]`` bool: the current observation begins an episode."""
    elapsed: Any
    """``[N]`` int32: steps in the unfinished episode."""
    episode_return: Any
    """``[N]`` float32: sum of rewards of the unfinished episode."""
    recurrent: Any
    """Pytree of ``[N, ...]``: the network's recurrent state."""


class FinishedEpisodes(NamedTuple):
    """Which steps of a rollout finished an episode, and what it came to."""

    finished: Any
    """``[T, N]`` bool."""
    returns: Any
    """``[T, N]`` float32, meaningful where finished."""
    lengths: Any
    """``[T, N]`` int32, meaningful where finished."""


@dataclasses.dataclass(frozen=True)
class CompiledWorld:
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

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Of one copy."""
        return self.environment.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Of one copy."""
        return self.environment.action_space

    def initial_state(self, key: np.ndarray, copies: int, recurrent: Any) -> RolloutState:
        """The state before the first rollout (its environments are reset inside the rollout)."""
        one_state, one_observation = jax.eval_shape(self._reset_one, _typed(jnp.zeros(2, "uint32")))

        def zeros(shape: jax.ShapeDtypeStruct) -> np.ndarray:
            return np.zeros((copies, *shape.shape), shape.dtype)

        return RolloutState(
            key=np.asarray(key, np.uint32),
            cycle=np.int32(0),
            environment=jax.tree.map(zeros, one_state),
            observation=jax.tree.map(zeros, one_observation),
            ended=np.zeros(copies, np.bool_),
            first=np.ones(copies, np.bool_),
            elapsed=np.zeros(copies, np.int32),
            episode_return=np.zeros(copies, np.float32),
            recurrent=recurrent,
        )

    def rollout(
        self,
        act: Act,
        noise: Callable[[Any, tuple[int, int]], Any],
        version: Any,
        state: RolloutState,
        length: int,
    ) -> tuple[Trajectory, FinishedEpisodes, RolloutState]:
        """Step N copies ``length`` times. Pure: to be called inside a compiled function.

        Args:
            act: decides for one copy.
            noise: (key, (T, N)) -> the acting noise of the whole rollout, leading axes [T, N].
            version: of the parameters that act; goes into the trajectory.
            state: from `initial_state` or the last rollout.
            length: T.
        """
        copies = state.ended.shape[0]
        key = jax.random.fold_in(_typed(state.key), state.cycle)
        acting, resetting, stepping = jax.random.split(key, 3)
        # All randomness is drawn at once: one vectorised generator instead of one in every step.
        fresh = jax.vmap(jax.vmap(self._reset_one))(jax.random.split(resetting, (length, copies)))
        keys = jax.random.split(stepping, (length, copies))
        starting = state.cycle == 0
        environment, observation = jax.tree.map(
            lambda new, old: jnp.where(starting, new[0], old),
            fresh,
            (state.environment, state.observation),
        )

        def step(carry: Any, drawn: Any) -> tuple[Any, Any]:
            (environment, observation, ended, first, elapsed, total, recurrent) = carry
            draw, fresh_t, keys_t = drawn
            decision = jax.vmap(act)(observation, recurrent, first, draw)
            outcome = jax.vmap(self._step_one)(
                environment, decision.environment_action, ended, elapsed, fresh_t, keys_t
            )
            (environment, following, reward, terminated, truncated, elapsed) = outcome
            valid = ~ended
            total = jnp.where(first, 0.0, total) + reward
            finished = terminated | truncated
            carry = (environment, following, finished, ended, elapsed, total, decision.state)
            row = (
                (observation, decision.action, self.shaping(reward, terminated)),
                (terminated, truncated, valid, first, decision.log_probability),
                (finished, total, elapsed),
            )
            return carry, row

        carry = (
            environment,
            observation,
            state.ended,
            state.first,
            state.elapsed,
            state.episode_return,
            state.recurrent,
        )
        draws = noise(acting, (length, copies))
        carry, (acted, flags, finished) = jax.lax.scan(step, carry, (draws, fresh, keys))
        (environment, observation, ended, first, elapsed, total, recurrent) = carry
        observations, actions, rewards = acted
        terminated, truncated, valid, firsts, log_probabilities = flags
        trajectory = Trajectory(
            observations=jax.tree.map(_append, observations, observation),
            actions=actions,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            first=_append(firsts, first),
            initial_state=state.recurrent,
            behaviour_log_probabilities=log_probabilities,
            version=version,
        )
        after = RolloutState(
            key=state.key,
            cycle=state.cycle + 1,
            environment=environment,
            observation=observation,
            ended=ended,
            first=first,
            elapsed=elapsed,
            episode_return=total,
            recurrent=recurrent,
        )
        return trajectory, FinishedEpisodes(*finished), after

    def _reset_one(self, key: Any) -> tuple[Any, Any]:
        environment = self.environment
        state = environment.initial(key)
        return state, environment.observation(state, key)

    def _step_one(
        self, state: Any, action: Any, ended: Any, elapsed: Any, fresh: Any, key: Any
    ) -> tuple[Any, ...]:
        """One step of one copy; a copy that has ended is reset instead."""
        environment = self.environment
        following = environment.transition(state, action, key)
        reward = environment.reward(state, action, following, key)
        terminated = environment.terminal(following, key) & ~ended
        observation = environment.observation(following, key)
        following, observation = jax.tree.map(
            lambda new, old: jnp.where(ended, new, old), fresh, (following, observation)
        )
        elapsed = jnp.where(ended, 0, elapsed + 1)
        limit = self.max_episode_steps
        truncated = jnp.zeros((), bool) if limit is None else (elapsed >= limit) & ~ended
        reward = jnp.where(ended, 0.0, jnp.asarray(reward, jnp.float32))
        return following, observation, reward, terminated, truncated, elapsed


def _typed(key: Any) -> Any:
    return jax.random.wrap_key_data(key, impl="threefry2x32")


def _append(rows: Any, last: Any) -> Any:
    return jnp.concatenate([rows, last[None]])
