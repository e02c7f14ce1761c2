"""Selection episodes in EnvPool: side by side in a pool, which uses all cores."""

from collections.abc import Callable

import jax
import numpy as np

from poise.agent.acting import choose_acting, make_actor
from poise.agent.agent import Agent
from poise.agent.noise import Noise, draw_with_generator
from poise.config import usable_cores
from poise.envs.env_factory import EnvFactory
from poise.envs.envpool_copies import make_envpool_copies
from poise.envs.seeding import environment_seed
from poise.evaluation.selection_player import Batch, Played, score_together
from poise.learning.evaluation_result import Score
from poise.trajectory import Snapshot

__all__ = ["PoolPlayer"]


class PoolPlayer:
    """Plays whole episodes in EnvPool's copies of an environment, side by side.

    Args:
        agent: chooses actions, given parameters.
        env_factory: factory of the environment.
        most_copies: maximum number of episodes at the same time; each has a copy.
    """

    def __init__(self, agent: Agent, env_factory: EnvFactory, most_copies: int) -> None:
        self.place = f"EnvPool's {env_factory.name}"
        self._agent = agent
        self._env_factory = env_factory
        self._most_copies = most_copies
        self._actor = make_actor(agent, choose_acting(agent, most_copies))

    def play(
        self,
        snapshot: Snapshot,
        batches: list[Batch],
        step_limit: int,
        beat: Callable[[], None],
    ) -> Score:
        """Play several batches, one after the other; see `SelectionPlayer`."""
        played = []
        for seeds, sampling in batches:
            draw = None
            if sampling is not None:
                draw = draw_with_generator(np.random.default_rng(sampling))
            for begin in range(0, len(seeds), self._most_copies):
                some = seeds[begin : begin + self._most_copies]
                played.append(self._play_some(snapshot, some, draw, step_limit, beat))
        return score_together(played, greedy=batches[0][1] is None)

    def _play_some(
        self,
        snapshot: Snapshot,
        seeds: list[np.random.SeedSequence],
        draw: Noise | None,
        step_limit: int,
        beat: Callable[[], None],
    ) -> Played:
        """Play one episode for each seed, at the same time."""
        agent, count = self._agent, len(seeds)
        parameters = np.asarray(snapshot.parameters)
        statistics = agent.observed_statistics(snapshot.statistics)
        copies = make_envpool_copies(self._env_factory, count, threads=min(count, usable_cores()))
        total, length, done = np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.bool_)
        try:
            observations = copies.reset([environment_seed(seed) for seed in seeds])
            state, first = agent.initial_state(count), np.ones(count, np.bool_)
            for _ in range(step_limit):
                beat()
                noise = None if draw is None else agent.head.noise(draw, (count,))
                output = self._actor(parameters, statistics, observations, state, first, noise)
                result = copies.step(jax.tree.map(np.asarray, output.environment_action))
                # A copy whose episode has ended goes on with another one, which does not count.
                total += np.where(done, 0.0, result.reward)
                length += ~done
                done |= result.terminated | result.truncated
                if done.all():
                    break
                observations, state = result.observation, output.state
                first = np.zeros(count, np.bool_)
        finally:
            copies.close()
        return total, length, done
