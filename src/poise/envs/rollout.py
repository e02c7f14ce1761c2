"""Rollouts inside a compiled function: T steps in N copies, by whatever steps a batch of them.

Next-step autoreset, as Gymnasium's vector environments have it: the step after an end only resets
its copy. Here is what all compiled environments share; how a batch is stepped is up to each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poise.envs.reward_shaping import RewardShaping
from poise.trajectory import ActorOutput, Trajectory

__all__ = [
    "Act",
    "DrawNoise",
    "FinishedEpisodes",
    "RolloutState",
    "Score",
    "StepResult",
    "first_state",
    "roll_out",
    "typed_key",
]

Act = Callable[[Any, Any, Any, Any], ActorOutput]
"""(observation, recurrent state, first, noise) of one copy -> Decision."""
Score = Callable[[Any, Any], Any]
"""(parameters of the distribution, action) of one copy -> log-probability of the action."""
DrawNoise = Callable[[Any, tuple[int, int]], Any]
"""(key, (T, N)) -> the acting noise of a whole rollout, leading axes [T, N]."""


class RolloutState(NamedTuple):
    """Everything that a worker carries from one cycle to the next; leading axis N copies."""

    key: Any
    """``[2]`` uint32: key data; the cycle's randomness is ``fold_in(key, cycle)``."""
    cycle: Any
    """int32 scalar: rollouts done."""
    environment: Any
    """Pytree: what is stepped; ``[N, ...]`` states, or a handle to them."""
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


class StepResult(NamedTuple):
    """What a step of N copies comes to. Flags and rewards of copies that only reset are ignored."""

    environment: Any
    """As in `RolloutState`."""
    observation: Any
    """Pytree of ``[N, ...]``."""
    reward: Any
    """``[N]``: numbers of any kind."""
    terminated: Any
    """``[N]`` bool."""
    truncated: Any
    """``[N]`` bool."""


Step = Callable[[Any, Any, Any, Any, Any], StepResult]
"""(environment, environment actions [N, ...], ended [N], elapsed steps with this one [N], what was
drawn for this step) -> Outcome. Copies that have ended are reset instead of stepped."""


def roll_out(
    step: Step,
    act: Act,
    score: Score,
    version: Any,
    state: RolloutState,
    draws: Any,
    drawn: Any,
    shaping: RewardShaping,
) -> tuple[Trajectory, FinishedEpisodes, RolloutState]:
    """Act and step T times in N copies. To be called inside a compiled function.

    Args:
        step: steps the copies.
        act: decides for one copy.
        score: says how probable the actions were.
        version: of the parameters that act; goes into the trajectory.
        state: where the rollout begins.
        draws: acting noise, leading axes [T, N].
        drawn: what ``step`` needs, leading axis T; ``()`` if nothing.
        shaping: what the loss sees of the rewards.
    """

    def move(carry: Any, given: Any) -> tuple[Any, Any]:
        (environment, observation, ended, first, elapsed, total, recurrent) = carry
        draw, drawn_t = given
        decision = jax.vmap(act)(observation, recurrent, first, draw)
        elapsed = jnp.where(ended, 0, elapsed + 1)
        outcome = step(environment, decision.environment_action, ended, elapsed, drawn_t)
        valid = ~ended
        terminated, truncated = outcome.terminated & valid, outcome.truncated & valid
        reward = jnp.where(ended, 0.0, jnp.asarray(outcome.reward, jnp.float32))
        total = jnp.where(first, 0.0, total) + reward
        finished = terminated | truncated
        carry = (
            outcome.environment,
            outcome.observation,
            finished,
            ended,
            elapsed,
            total,
            decision.state,
        )
        row = (
            (observation, decision.action, shaping(reward, terminated)),
            (terminated, truncated, valid, first, decision.parameters),
            (finished, total, elapsed),
        )
        return carry, row

    carry = (
        state.environment,
        state.observation,
        state.ended,
        state.first,
        state.elapsed,
        state.episode_return,
        state.recurrent,
    )
    carry, (acted, flags, finished) = jax.lax.scan(move, carry, (draws, drawn))
    (environment, observation, ended, first, elapsed, total, recurrent) = carry
    observations, actions, rewards = acted
    terminated, truncated, valid, firsts, parameters = flags
    trajectory = Trajectory(
        observations=jax.tree.map(_append, observations, observation),
        actions=actions,
        rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        first=_append(firsts, first),
        initial_state=state.recurrent,
        behaviour_log_probabilities=jax.vmap(jax.vmap(score))(parameters, actions),
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


def first_state(
    key: np.ndarray, copies: int, environment: Any, observation: Any, recurrent: Any
) -> RolloutState:
    """The state before the first rollout.

    Args:
        key: ``[2]`` uint32 key data.
        copies: N.
        environment: what is stepped.
        observation: pytree of ``[N, ...]``.
        recurrent: the network's recurrent state at the start of an episode, ``[N, ...]``.
    """
    return RolloutState(
        key=np.asarray(key, np.uint32),
        cycle=np.int32(0),
        environment=environment,
        observation=observation,
        ended=np.zeros(copies, np.bool_),
        first=np.ones(copies, np.bool_),
        elapsed=np.zeros(copies, np.int32),
        episode_return=np.zeros(copies, np.float32),
        recurrent=recurrent,
    )


def typed_key(data: Any) -> Any:
    """The JAX key of ``[2]`` uint32 key data."""
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def _append(rows: Any, last: Any) -> Any:
    return jnp.concatenate([rows, last[None]])
