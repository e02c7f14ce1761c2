"""The player in a worker's process, which plays episodes of an evaluation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from poise.agent.agent import Agent
from poise.agent.noise import draw_with_generator
from poise.agent.policy import Policy, evaluation_actor
from poise.batching import blank
from poise.config import TrainConfig
from poise.envs.env_factory import EnvFactory
from poise.evaluation.episodes import EpisodePlayer
from poise.learning.evaluation_result import Episode
from poise.trajectory import Snapshot

__all__ = ["WorkerPlayer", "copies_of"]


def copies_of(index: int, workers: int, copies: int) -> int:
    """Return a worker's share of the copies that an evaluation may have open.

    A single copy is the parent's own, because it cannot play in parallel with another.
    """
    if copies < 2:
        return 0
    return copies // workers + (index < copies % workers)


class WorkerPlayer:
    """Plays whole episodes in a worker's process, in copies separate from the training ones.

    Args:
        agent: chooses actions, given parameters.
        config: names the environment, and says where an episode is cut.
        env_factory: makes copies of Gymnasium's own environment.
        copies: maximum number of copies open at a time.
    """

    def __init__(
        self, agent: Agent, config: TrainConfig, env_factory: EnvFactory, copies: int
    ) -> None:
        self._agent = agent
        self._choice = config.environment_choice
        self._actor = evaluation_actor(agent)
        self._live: Callable[[], None] = lambda: None
        self._player = EpisodePlayer(
            env_factory.make, config.longest_evaluation_episode, lambda: self._live(), copies
        )
        self._policy: Policy | None = None
        self._sampling: np.random.SeedSequence | None = None
        self._step_limit: int | None = None

    def open(self, alive: Callable[[], None]) -> None:
        """Make the copies to play in."""
        self._live = alive
        self._player.open()

    def prepare(
        self,
        snapshot: Snapshot | None,
        sampling: np.random.SeedSequence | None,
        step_limit: int | None,
    ) -> None:
        """Compile the policy that acts; None acts at random."""
        self._policy, self._sampling, self._step_limit = None, sampling, step_limit
        if snapshot is None:
            return
        agent = self._agent
        policy = Policy(
            agent,
            np.asarray(snapshot.parameters),
            self._choice,
            snapshot.statistics,
            self._actor,
        )
        noise: Any = None
        rows = policy.rows
        if sampling is not None:
            noise = agent.head.noise(draw_with_generator(np.random.default_rng(0)), (rows,))
        blanks = blank(agent.observation_space, rows)
        policy.decide(blanks, agent.initial_state(rows), np.ones(rows, np.bool_), noise)
        self._policy = policy

    def provide(self, count: int, alive: Callable[[], None]) -> int:
        """Make this many copies, or as many as allowed; return how many there are."""
        self._live = alive
        return self._player.provide(count)

    def play(
        self,
        waiting: Callable[[], tuple[int, int] | None],
        over: Callable[[int, Episode], None],
        alive: Callable[[], None],
    ) -> None:
        """Play episodes as prepared, until none is waiting and all are finished."""
        self._live = alive
        self._player.take_turns(
            self._policy, waiting, over, self._sampling, step_limit=self._step_limit
        )

    def describe_activity(self) -> str:
        """Describe what is being stepped, or was stepped last."""
        return self._player.describe_activity()

    def close(self) -> None:
        """Close the copies."""
        self._player.close()
