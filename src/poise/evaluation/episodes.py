"""Evaluation: the return that a policy reaches in Gymnasium's own environment.

One episode is played for every seed, and none is dropped: stopping when the first episodes have
finished would favour short ones (Colas et al. 2019, arXiv 1904.06979, on intervals of the mean).
"""

import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from poise.agent.policy import Policy
from poise.config import EVALUATION_COPIES
from poise.envs.checked_env import CheckedEnv
from poise.envs.shared_objects import require_new
from poise.envs.statistics_wrappers import with_true_rewards
from poise.errors import EnvironmentCheckError, InputError
from poise.evaluation.lanes import Actions, DecidedActions, Lane, RandomActions
from poise.evaluation.player_processes import PlayerProcesses, SharedEpisodes
from poise.evaluation.scoring import score, student_t_quantile
from poise.launchers.evaluation_helpers import Players, Task
from poise.learning.evaluation_result import Episode, Score
from poise.trajectory import Snapshot

__all__ = ["Episode", "EpisodePlayer", "score", "student_t_quantile", "total"]

MAKING_SECONDS = 1.0
"""After making copies for this many seconds, no more are made: several copies save only the time to
choose actions, which must outweigh the time to make them. Their number changes no score."""


class EpisodePlayer:
    """Plays whole episodes in a few copies of Gymnasium's own environment, kept for reuse.

    Every episode has its own seed and is played to its end; a free copy takes the next waiting one.
    The policy always acts on batches of the same size, so the returns are bit for bit the same for
    any number of copies, in whichever process they are.

    Args:
        make: makes one copy.
        step_limit: an episode is cut after this many steps.
        alive: called between steps; may raise to abort.
        copies: maximum number of open copies; fewer are made if making one is slow.
        players: returns workers that play the episodes instead, or None. While there are some, no
            copy is open here.
        alone: called before a second copy is made; returns whether copies must not be stepped side
            by side.
        processes: play a share of a policy's episodes; None plays all of them here. They belong to
            this player, which closes them.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        step_limit: int,
        alive: Callable[[], None] = lambda: None,
        copies: int = EVALUATION_COPIES,
        players: Callable[[], Players | None] = lambda: None,
        alone: Callable[[], bool] = lambda: False,
        processes: PlayerProcesses | None = None,
    ) -> None:
        self._make = make
        self._step_limit = step_limit
        self._alive = alive
        self._most = copies
        self._players = players
        self._must_be_alone = alone
        self._processes = processes or PlayerProcesses(b"", 0)
        self._copies: list[CheckedEnv] = []
        self._making = 0.0
        self._now: CheckedEnv | None = None

    def open(self) -> None:
        """Make the copies to play in, before anything else is stepped."""
        self.provide(self._most)

    def close(self) -> None:
        """Close the environments, and end the processes."""
        self._processes.close()
        self._close_copies()

    def _close_copies(self) -> None:
        while self._copies:
            self._copies.pop().close()
        self._making = 0.0

    def beat(self) -> None:
        """Give a sign of life; may raise to abort."""
        self._alive()

    def describe_activity(self) -> str:
        """Describe what is being stepped, or was stepped last; empty before the first step."""
        return "" if self._now is None else self._now.describe_activity()

    def play(
        self,
        policy: Policy,
        seeds: Sequence[int],
        sampling: np.random.SeedSequence | None = None,
        done: Callable[[int], None] = lambda count: None,
        step_limit: int | None = None,
    ) -> Score:
        """Play one episode for each seed.

        Args:
            policy: the policy that acts.
            seeds: one for each episode's ``env.reset``.
            sampling: seed for sampling actions: each episode derives its own from it and its
                number; None acts greedily.
            done: called with the number of finished episodes, each time one finishes.
            step_limit: an episode is cut after this many steps; by default, the player's limit.

        Raises:
            EnvironmentFailureError: the environment raised, or broke its contract.
        """
        episodes = self.episodes(policy, seeds, sampling, done, step_limit=step_limit)
        return total(episodes, greedy=sampling is None)

    def episodes(
        self,
        policy: Policy,
        seeds: Sequence[int],
        sampling: np.random.SeedSequence | None = None,
        done: Callable[[int], None] = lambda count: None,
        step_limit: int | None = None,
    ) -> list[Episode]:
        """Play one episode for each seed, and return the results; see `play`."""
        snapshot = Snapshot(np.int32(0), policy.parameters, policy.statistics)
        task = Task(snapshot, seeds, sampling, step_limit=step_limit)
        found = self._played_elsewhere(task, done)

        def over(number: int, episode: Episode) -> None:
            found[number] = episode
            done(len(found))

        rest = [(number, seed) for number, seed in enumerate(seeds) if number not in found]
        shared = SharedEpisodes(self._processes, task, rest, over)
        while shared.wait(self._alive):
            self.provide(len(rest))
            self.take_turns(policy, shared.next, shared.over, sampling, len(rest), step_limit)
        return [found[number] for number in range(len(seeds))]

    def play_at_random(self, seeds: Sequence[int], step_budget: int | None = None) -> Score:
        """Play one episode for each seed with uniformly random actions, as a baseline.

        Args:
            seeds: one for each episode's ``env.reset``; its actions use a seed derived from it.
            step_budget: in the order of the seeds, an episode counts only if it begins before this
                many steps have been taken; the first one always counts.

        Raises:
            EnvironmentFailureError: the environment raised, or broke its contract.
        """
        budget = np.inf if step_budget is None else step_budget
        task = Task(None, seeds, step_budget=step_budget)
        found = self._played_elsewhere(task, lambda count: None)

        def counted() -> tuple[list[Episode], bool]:
            """Return the finished episodes that count so far, and whether these are all."""
            episodes: list[Episode] = []
            steps = 0
            while len(episodes) in found and not (episodes and steps >= budget):
                episodes.append(found[len(episodes)])
                steps += episodes[-1].length
            return episodes, len(episodes) == len(seeds) or (bool(episodes) and steps >= budget)

        def waiting() -> tuple[int, int] | None:
            episodes, are_all = counted()
            return None if are_all else (len(episodes), seeds[len(episodes)])

        if waiting() is not None:
            # One after the other: only then is it known which ones count.
            self.provide(1)
            self.take_turns(None, waiting, found.__setitem__, lanes=1)
        return total(counted()[0], greedy=False)

    def _played_elsewhere(self, task: Task, done: Callable[[int], None]) -> dict[int, Episode]:
        players = self._players()
        if players is None or not players.are_there():
            return {}
        self._close_copies()
        return players.play(task, self._alive, done)

    def take_turns(
        self,
        policy: Policy | None,
        waiting: Callable[[], tuple[int, int] | None],
        over: Callable[[int, Episode], None],
        sampling: np.random.SeedSequence | None = None,
        lanes: int | None = None,
        step_limit: int | None = None,
    ) -> None:
        """Play episodes in the open copies, until none is waiting and all are finished.

        Args:
            policy: the policy that acts; None acts at random.
            waiting: returns the next episode's number in the evaluation, and its seed; None if no
                episode is waiting.
            over: called with the number and the result of each finished episode.
            sampling: as for `play`.
            lanes: maximum number of copies to use; by default all.
            step_limit: as for `play`.
        """
        most = self._step_limit if step_limit is None else step_limit
        each = [Lane(copy) for copy in self._copies[:lanes]]
        size = len(each) if policy is None else policy.rows
        blocks: list[Actions] = [
            RandomActions(each[i : i + size])
            if policy is None
            else DecidedActions(policy, each[i : i + size], sampling)
            for i in range(0, len(each), size)
        ]
        while True:
            for block in blocks:
                self._begin(block, waiting)
            going = [
                (block, [row for row, lane in enumerate(block.lanes) if lane.episode is not None])
                for block in blocks
            ]
            if not any(rows for _, rows in going):
                return
            for block, rows in going:
                if rows:
                    self._step(block, rows, over, most)

    def _begin(self, block: Actions, waiting: Callable[[], tuple[int, int] | None]) -> None:
        """Begin an episode in every free lane."""
        for row, lane in enumerate(block.lanes):
            following = waiting() if lane.episode is None else None
            if following is not None:
                self._alive()
                self._now = lane.copy
                lane.begin(*following)
                block.begin(row, following[1])

    def _step(
        self, block: Actions, rows: list[int], over: Callable[[int, Episode], None], most: int
    ) -> None:
        # Called once per block: a step may take seconds, but a block has few lanes.
        self._alive()
        for row, action in zip(rows, block.act(rows), strict=True):
            lane = block.lanes[row]
            assert lane.episode is not None, "it is being played"
            self._now = lane.copy
            lane.observation, reward, terminated, truncated = lane.copy.step(action)
            lane.total += reward
            lane.length += 1
            limit = lane.length >= most
            if terminated or truncated or limit:
                cut = limit and not (terminated or truncated)
                number, lane.episode = lane.episode, None
                over(number, Episode(lane.total, lane.length, cut))

    def provide(self, count: int) -> int:
        """Make copies until there are this many, or as many as allowed; return their number.

        Raises:
            InputError: not even one copy can be made.
        """
        while len(self._copies) < min(self._most, count):
            self._alive()
            if self._copies and self._making > MAKING_SECONDS:
                break
            if len(self._copies) == 1 and self._must_be_alone():
                self._most = 1
                break
            began = time.monotonic()
            try:
                environment = self._make()
                others = [copy.environment for copy in self._copies]
                require_new(environment, others, type(environment.unwrapped).__qualname__)
                self._copies.append(CheckedEnv(with_true_rewards(environment), "in evaluation"))
            except EnvironmentCheckError:
                raise
            except InputError as error:
                if not self._copies:
                    raise
                self._most = len(self._copies)
                if multiprocessing.parent_process() is None:
                    warnings.warn(
                        f"an evaluation continues with {self._most} copies of the environment and "
                        f"the same score, because another one could not be made: {error}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                break
            self._making += time.monotonic() - began
        return len(self._copies)


def total(episodes: Sequence[Episode], *, greedy: bool) -> Score:
    """Compute the score of some episodes."""
    return score(
        np.asarray([one.total for one in episodes]),
        np.asarray([one.length for one in episodes]),
        greedy=greedy,
        cut=sum(one.cut for one in episodes),
    )
