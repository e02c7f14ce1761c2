"""Rollouts: T steps in N copies, with next-step autoreset, as in Gymnasium's vector environments.

The step after an episode's end only resets its copy. Recording a step (`advance`) and converting a
rollout to a trajectory (`to_trajectory`) are the same for environments stepped by XLA and Python.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from poise.agent.agent import Agent
from poise.agent.noise import Noise, draw_with_key
from poise.envs.reward_shaping import RewardShaping
from poise.envs.seeding import typed_key
from poise.maths.namespace import array_namespace
from poise.trajectory import ActorOutput, Snapshot, StepResult, Trajectory

__all__ = [
    "CompiledEnvs",
    "Explore",
    "FinishedEpisodes",
    "RolloutState",
    "Transition",
    "advance",
    "first_state",
    "roll_out",
    "roll_out_in_python",
    "to_trajectory",
]


Explore = Callable[[Any, Any, Noise], Any]
"""(acting noise of T steps, version of the parameters, source of more noise) -> acting noise."""


class RolloutState(NamedTuple):
    """Everything that a worker carries from one cycle to the next; leading axis N copies."""

    key: Any
    """``[2]`` uint32: key data; a cycle's random numbers derive from ``fold_in(key, cycle)``."""
    cycle: Any
    """int32 scalar: number of rollouts so far."""
    environment: Any
    """Pytree: environment states ``[N, ...]``, or a handle to them; ``()`` if stepped in Python."""
    observation: Any
    """Pytree of ``[N, ...]``: the current observations."""
    ended: Any
    """``[N]`` bool: the episode has ended, and the next step only resets."""
    first: Any
    """``[N]`` bool: the current observation begins an episode."""
    elapsed: Any
    """``[N]`` int32: steps in the unfinished episode."""
    episode_return: Any
    """``[N]`` float32 (float64 in Python): sum of rewards of the unfinished episode."""
    recurrent: Any
    """Pytree of ``[N, ...]``: the network's recurrent state."""
    discounted_return: Any = ()
    """``[N]`` float32: discounted sum of shaped rewards; ``()`` if rewards are not normalised."""


class Transition(NamedTuple):
    """One step of N copies or, with one more leading axis, T steps."""

    observation: Any
    """Pytree of ``[N, ...]``: the observation before the step."""
    action: Any
    """Pytree of ``[N, ...]``: the action, as sampled."""
    dist_params: Any
    """``[N, P]``: parameters of the distribution that the action was drawn from."""
    reward: Any
    """``[N]``: the environment's own reward; 0 where the step only reset."""
    terminated: Any
    """``[N]`` bool."""
    truncated: Any
    """``[N]`` bool."""
    valid: Any
    """``[N]`` bool: false where the step only reset."""
    first: Any
    """``[N]`` bool: the observation began an episode."""
    episode_return: Any
    """``[N]``: sum of the episode's rewards so far."""
    elapsed: Any
    """``[N]`` int32: number of steps of the episode so far."""
    discounted_return: Any = ()
    """``[N]`` float32: as in `RolloutState`, after the step."""

    @property
    def episodes(self) -> "FinishedEpisodes":
        """The episodes that ended in these steps."""
        finished = self.terminated | self.truncated
        return FinishedEpisodes(finished, self.episode_return, self.elapsed)


class FinishedEpisodes(NamedTuple):
    """The episodes that finished during a rollout; all arrays are ``[T, N]``."""

    finished: Any
    """bool: whether the step finished an episode."""
    returns: Any
    """Sum of the episode's rewards, meaningful where it finished."""
    lengths: Any
    """int32: number of the episode's steps, meaningful where it finished."""


@runtime_checkable
class CompiledEnvs(Protocol):
    """N copies of an environment that are stepped inside a compiled function."""

    def draw(self, key: Any, batch: tuple[int, int]) -> tuple[Any, Any]:
        """Return a key for acting, and the random numbers of ``[T, N]`` steps (leading axis T)."""

    def reset(self, environment: Any, observation: Any, draws: Any) -> tuple[Any, Any]:
        """Return states and observations ``[N, ...]`` for the start of the first rollout."""

    def step(
        self, environment: Any, actions: Any, ended: Any, elapsed: Any, draws: Any
    ) -> tuple[Any, StepResult]:
        """Step the copies; those whose episode has ended are reset instead.

        Args:
            environment: the environments, as in `RolloutState`.
            actions: environment actions ``[N, ...]``.
            ended: ``[N]`` bool, whether the copy's episode has ended.
            elapsed: ``[N]`` int32, steps of the episode, including this one.
            draws: this step's random numbers, from `draw`.
        """


def first_state(
    key: np.ndarray, copies: int, environment: Any, observation: Any, recurrent: Any
) -> RolloutState:
    """Return the state before the first rollout.

    Args:
        key: ``[2]`` uint32 key data.
        copies: N.
        environment: the environments, as in `RolloutState`.
        observation: first observations, a pytree of ``[N, ...]``.
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


def roll_out(
    agent: Agent,
    envs: CompiledEnvs,
    snapshot: Snapshot,
    state: RolloutState,
    length: int,
    explore: Explore | None = None,
) -> tuple[Transition, RolloutState]:
    """Act and step T times in N copies. To be called inside a compiled function.

    Args:
        agent: the agent that acts.
        envs: the environments.
        snapshot: what it acts with.
        state: the state at the start of the rollout.
        length: T.
        explore: changes the acting noise, if the algorithm does so.

    Returns:
        The transitions, leading axes ``[T, N]``, and the state after them.
    """
    batch = length, state.ended.shape[0]
    acting_key, draws = envs.draw(jax.random.fold_in(typed_key(state.key), state.cycle), batch)
    # All noise is drawn at once: one vectorised call instead of one in every step.
    draw = draw_with_key(acting_key)
    noise = agent.head.noise(draw, batch)
    if explore is not None:
        noise = explore(noise, snapshot.version, draw)
    parameters = agent.layout.unflatten(snapshot.parameters)
    begins, before = state.cycle == 0, (state.environment, state.observation)
    environment, observation = jax.tree.map(
        lambda new, old: jnp.where(begins, new, old), envs.reset(*before, draws), before
    )
    state = state._replace(environment=environment, observation=observation)

    def act(observation: Any, recurrent: Any, first: Any, noise: Any) -> ActorOutput:
        return agent.decide(parameters, snapshot.statistics, observation, recurrent, first, noise)

    def move(state: RolloutState, given: Any) -> tuple[RolloutState, Transition]:
        noise, draws = given
        output = jax.vmap(act)(state.observation, state.recurrent, state.first, noise)
        environment, result = envs.step(
            state.environment, output.environment_action, state.ended, _elapsed(state), draws
        )
        return advance(state, output, environment, result)

    after, transitions = jax.lax.scan(move, state, (noise, draws))
    return transitions, after._replace(cycle=state.cycle + 1)


def roll_out_in_python(
    act: Callable[[Any, Any, Any, Any], ActorOutput],
    step: Callable[[Any], StepResult],
    state: RolloutState,
    noise: Iterable[Any],
) -> tuple[Transition, RolloutState]:
    """Act and step N copies in a Python loop.

    Args:
        act: function (observations, recurrent state, first, noise) -> actions, for all copies.
        step: steps all copies; one whose episode has ended is reset instead.
        state: the state at the start of the rollout.
        noise: acting noise for each of the T steps.

    Returns:
        The transitions, leading axes ``[T, N]``, and the state after them.
    """
    rows = []
    cycle = state.cycle
    for one in noise:
        output = act(state.observation, state.recurrent, state.first, one)
        state, row = advance(state, output, (), step(output.environment_action))
        rows.append(row)
    transitions: Transition = jax.tree.map(lambda *steps: np.array(steps), *rows)
    return transitions, state._replace(cycle=cycle + 1)


def advance(
    state: RolloutState, output: ActorOutput, environment: Any, result: StepResult
) -> tuple[RolloutState, Transition]:
    """Record a step of N copies: returns the state after it, and its transition.

    Args:
        state: the state before the step.
        output: the agent's output, with the actions.
        environment: the environments after the step, as in `RolloutState`.
        result: the step's result; flags and rewards of copies that only reset are ignored.
    """
    xp = array_namespace(state.ended, result.terminated)
    valid = ~state.ended
    reward = xp.where(valid, result.reward, np.float32(0))
    transition = Transition(
        observation=state.observation,
        action=output.action,
        dist_params=output.dist_params,
        reward=reward,
        terminated=result.terminated & valid,
        truncated=result.truncated & valid,
        valid=valid,
        first=state.first,
        episode_return=xp.where(state.first, np.float32(0), state.episode_return) + reward,
        elapsed=_elapsed(state),
    )
    after = state._replace(
        environment=environment,
        observation=result.observation,
        ended=transition.episodes.finished,
        first=state.ended,
        elapsed=transition.elapsed,
        episode_return=transition.episode_return,
        recurrent=output.state,
    )
    return after, transition


def to_trajectory(
    agent: Agent,
    shaping: RewardShaping,
    snapshot: Snapshot,
    before: RolloutState,
    transitions: Transition,
    after: RolloutState,
) -> Trajectory:
    """Convert a rollout to a trajectory to learn from.

    Args:
        agent: the agent that acted.
        shaping: changes to the rewards for the loss.
        snapshot: what acted.
        before: the state before the rollout.
        transitions: the rollout's transitions, leading axes ``[T, N]``.
        after: the state after the rollout.
    """
    xp = array_namespace(transitions.valid)

    def append(rows: Any, last: Any) -> Any:
        return xp.concatenate([rows, last[None]])

    score = agent.head.log_probability(transitions.dist_params, transitions.action)
    rewards = shaping(transitions.reward.astype(np.float32), transitions.terminated)
    if shaping.return_discount is not None:
        rewards = shaping.normalized(rewards, snapshot.statistics[1])
    return Trajectory(
        observations=jax.tree.map(append, transitions.observation, after.observation),
        actions=transitions.action,
        rewards=rewards.astype(np.float32),
        terminated=transitions.terminated,
        truncated=transitions.truncated,
        valid=transitions.valid,
        first=append(transitions.first, after.first),
        initial_state=before.recurrent,
        behaviour_log_probabilities=score.astype(np.float32),
        version=snapshot.version,
    )


def _elapsed(state: RolloutState) -> Any:
    """Return the number of steps of each copy's episode, including the next one."""
    xp = array_namespace(state.ended)
    return xp.where(state.ended, np.int32(0), state.elapsed + np.int32(1))
