"""Selection episodes in a compiled twin: all of a batch in one XLA call."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise.agent.agent import Agent
from poise.agent.noise import draw_with_key
from poise.envs.jax_envs import Draws, JaxEnvs
from poise.envs.seeding import key_data, typed_key
from poise.evaluation.selection_player import Batch, Played, score_together
from poise.learning.compiler import Compiler, ProgramOfAnyShape
from poise.learning.evaluation_result import Score
from poise.trajectory import Snapshot

__all__ = ["TwinPlayer"]


class TwinPlayer:
    """Plays whole episodes in a compiled environment, side by side.

    Args:
        agent: chooses actions, given parameters.
        envs: the compiled environment.
        compiler: compiles the run's programs.
    """

    def __init__(self, agent: Agent, envs: JaxEnvs, compiler: Compiler) -> None:
        # Not a method, for the same reason as in `JaxProgram`.
        play = functools.partial(_play, agent, envs)
        self._play = ProgramOfAnyShape(compiler, "twin", play)
        self.place = f"the compiled twin of {envs.name}"

    def compile(self, snapshot: Snapshot, episodes: int, *, greedy: bool) -> None:
        """Compile for snapshots with these shapes and this number of episodes."""
        keys = np.zeros((episodes, 2), np.uint32)
        action_key = None if greedy else keys[0]
        self._play.compile(snapshot.parameters, snapshot.statistics, keys, action_key, np.int32(1))

    def play(
        self,
        snapshot: Snapshot,
        batches: list[Batch],
        step_limit: int,
        beat: Callable[[], None],
    ) -> Score:
        """Play several batches, with a call each; see `SelectionPlayer`."""
        played = []
        for batch in batches:
            played.append(self._play_batch(snapshot, *batch, step_limit))
            # The call could not be interrupted: a signal that arrived meanwhile aborts now.
            beat()
        return score_together(played, greedy=batches[0][1] is None)

    def _play_batch(
        self,
        snapshot: Snapshot,
        seeds: list[np.random.SeedSequence],
        sampling: np.random.SeedSequence | None,
        step_limit: int,
    ) -> Played:
        """Play one episode for each seed, in one call."""
        keys = np.stack([key_data(seed) for seed in seeds])
        action_key = None if sampling is None else key_data(sampling)
        totals, lengths, done = self._play(
            snapshot.parameters, snapshot.statistics, keys, action_key, np.int32(step_limit)
        )
        return np.asarray(totals), np.asarray(lengths), np.asarray(done)


def _play(
    agent: Agent,
    envs: JaxEnvs,
    vector: Any,
    statistics: Any,
    keys: Any,
    action_key: Any,
    step_limit: Any,
) -> tuple[Any, Any, Any]:
    """Return the returns ``[N]`` and lengths ``[N]`` of episodes, and which ones were not cut."""
    parameters = agent.layout.unflatten(vector)
    count = keys.shape[0]
    typed = jax.vmap(typed_key)(keys)
    environment, observation = envs.start(typed)
    fresh = environment, observation
    nobody = jnp.zeros(count, jnp.bool_)

    def act(observation: Any, recurrent: Any, first: Any, noise: Any) -> Any:
        return agent.decide(parameters, statistics, observation, recurrent, first, noise)

    def is_going(carry: Any) -> Any:
        *_, done, _, _, step = carry
        return (step < step_limit) & ~jnp.all(done)

    def move(carry: Any) -> Any:
        environment, observation, recurrent, done, total, length, step = carry
        noise = None
        if action_key is not None:
            draw = draw_with_key(jax.random.fold_in(typed_key(action_key), step))
            noise = agent.head.noise(draw, (count,))
        first = jnp.full(count, step == 0)
        output = jax.vmap(act)(observation, recurrent, first, noise)
        stepping = jax.vmap(jax.random.fold_in, (0, None))(typed, step + 1)
        elapsed = jnp.full(count, step + 1)
        environment, result = envs.step(
            environment, output.environment_action, nobody, elapsed, Draws(fresh, stepping)
        )
        return (
            environment,
            result.observation,
            output.state,
            done | result.terminated | result.truncated,
            total + jnp.where(done, jnp.float32(0), result.reward),
            length + jnp.where(done, 0, 1),
            step + 1,
        )

    start = (
        environment,
        observation,
        jax.tree.map(jnp.asarray, agent.initial_state(count)),
        nobody,
        jnp.zeros(count, jnp.float32),
        jnp.zeros(count, jnp.int32),
        jnp.int32(0),
    )
    *_, done, total, length, _ = jax.lax.while_loop(is_going, move, start)
    return total, length, done
