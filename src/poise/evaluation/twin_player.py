"""Selection episodes in a compiled twin: all of them in one XLA call.

Only candidates are compared there. What is verified and reported is measured on Gymnasium's own
environment.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise.agent.agent import Agent
from poise.agent.noise import draw_with_key
from poise.envs.jax_envs import Draws, JaxEnvs
from poise.envs.seeding import key_data, typed_key
from poise.evaluation.scoring import score
from poise.learning.compiler import Compiler, ProgramOfAnyShape
from poise.learning.evaluation_result import Score
from poise.number_format import numbers
from poise.trajectory import Snapshot
from poise.user_warnings import warn_caller

__all__ = ["TwinPlayer", "warn_if_different"]

FEWEST_EPISODES = 10
"""The deviation of fewer episodes says too little."""
TOO_MANY_ERRORS = 4.0
"""Two scores differ by more than chance if their difference is this many standard errors."""
ROUNDING = 1e-4
"""Relative difference that rounding may cause: the twin adds up rewards in float32."""


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

    def compile(self, snapshot: Snapshot, episodes: int, *, greedy: bool) -> None:
        """Compile for snapshots with these shapes and this number of episodes."""
        keys = np.zeros((episodes, 2), np.uint32)
        action_key = None if greedy else keys[0]
        self._play.compile(snapshot.parameters, snapshot.statistics, keys, action_key, np.int32(1))

    def play(
        self,
        snapshot: Snapshot,
        seeds: list[np.random.SeedSequence],
        sampling: np.random.SeedSequence | None,
        step_limit: int,
    ) -> Score:
        """Play one episode for each seed, to its end, all in one call.

        Args:
            snapshot: the parameters that act.
            seeds: one for each episode.
            sampling: seed for sampling actions; None acts greedily.
            step_limit: an episode is cut after this many steps.
        """
        return self.play_batches(snapshot, [(seeds, sampling)], step_limit)

    def play_batches(
        self,
        snapshot: Snapshot,
        batches: list[tuple[list[np.random.SeedSequence], np.random.SeedSequence | None]],
        step_limit: int,
    ) -> Score:
        """Play several batches, with a call each, and score all their episodes together.

        Args:
            snapshot: the parameters that act.
            batches: for each, the seeds and the sampling of `play`.
            step_limit: an episode is cut after this many steps.
        """
        played = [self._play_batch(snapshot, *batch, step_limit) for batch in batches]
        returns, lengths, done = (np.concatenate(parts) for parts in zip(*played, strict=True))
        is_greedy, cut = batches[0][1] is None, int(np.sum(~done))
        return score(returns.astype(np.float64), lengths, greedy=is_greedy, cut=cut)

    def _play_batch(
        self,
        snapshot: Snapshot,
        seeds: list[np.random.SeedSequence],
        sampling: np.random.SeedSequence | None,
        step_limit: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the returns and lengths of the episodes, and which ones were not cut."""
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


def warn_if_different(selection: Score, verification: Score, environment: str) -> None:
    """Warn if one policy's score in the twin and in the environment differ by more than chance."""
    if _differ(selection, verification):
        warn_caller(
            f"the compiled twin of {environment} differs from Gymnasium's own environment: the "
            f"same policy reaches {_interval(selection)} in the twin and "
            f"{_interval(verification)} in the environment; train with --world copies, and please "
            "report this"
        )


def _differ(selection: Score, verification: Score) -> bool:
    """Return whether two scores of one policy differ by more than chance and rounding.

    A few episodes may all have the same return by chance, so the larger of both standard deviations
    is used for both scores.
    """
    if min(selection.episodes, verification.episodes) < FEWEST_EPISODES:
        return False
    deviation = max(selection.deviation, verification.deviation)
    error = deviation * math.sqrt(1 / selection.episodes + 1 / verification.episodes)
    difference = abs(selection.mean - verification.mean)
    scale = max(abs(selection.mean), abs(verification.mean))
    return difference > TOO_MANY_ERRORS * error + ROUNDING * scale


def _interval(score: Score) -> str:
    mean, low, high = numbers(score.mean, score.low, score.high)
    return f"{mean} on average over {score.episodes} episodes (95%: {low} to {high})"
