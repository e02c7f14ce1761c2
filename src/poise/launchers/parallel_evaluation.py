"""The parent's side of an evaluation that worker processes play.

Free workers get episodes one after the other, so that the cores are busy to the end. A worker that
is in a training cycle joins once it has sent its update; that update, like every other message for
the server, is processed after the evaluation. If a worker dies or hangs, another one plays its
episodes.
"""

import json
import selectors
import time
import warnings
from collections.abc import Callable, Mapping

from poise.errors import EnvironmentFailureError, WorkerError
from poise.launchers.episode_queue import EpisodeQueue
from poise.launchers.evaluation_helpers import Task
from poise.launchers.evaluation_worker import (
    ALIVE,
    CANNOT_PLAY,
    LANES,
    PLAY_FAILED,
    PLAYED,
    pack_order,
    pack_sampling,
)
from poise.launchers.shared_policy import SharedPolicy
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.worker_failure import describe_exit
from poise.launchers.worker_main import ERROR, START_SECONDS
from poise.launchers.worker_process import WorkerProcess
from poise.learning.evaluation_result import Episode

__all__ = ["ProcessPlayers"]


class ProcessPlayers:
    """Workers in processes, as players.

    Args:
        workers: the existing workers, by number.
        copies: returns the maximum number of copies that a worker may play in, given its number;
            0 if it may not play.
        shared_policy: where they read the policy.
        supervision: how the run monitors its workers.
        heartbeats: where their signs of life are recorded.
    """

    def __init__(
        self,
        workers: Mapping[int, WorkerProcess],
        copies: Callable[[int], int],
        shared_policy: SharedPolicy,
        supervision: Supervision,
        heartbeats: Heartbeats,
    ) -> None:
        self.workers = workers
        self.copies = copies
        self.supervision = supervision
        self.heartbeats = heartbeats
        self._shared_policy = shared_policy
        self._unable: set[int] = set()

    def are_there(self) -> bool:
        """Whether at least one worker can play."""
        return bool(self.able())

    def able(self) -> list[WorkerProcess]:
        """Return the workers that can play."""
        return [
            one
            for one in self.workers.values()
            if one.can_play and one.index not in self._unable and self.copies(one.index) > 0
        ]

    def play(
        self, task: Task, alive: Callable[[], None], done: Callable[[int], None]
    ) -> dict[int, Episode]:
        """Play episodes until all are finished or no worker can play; see `Players`."""
        policy = None if task.snapshot is None else self._shared_policy.post(task.snapshot)
        sampling = pack_sampling(task.sampling)

        def order(lanes: int, episodes: list[tuple[int, int]]) -> bytes:
            return pack_order(policy, sampling, task.step_limit, lanes, episodes)

        queue = EpisodeQueue(task, done)
        with selectors.DefaultSelector() as selector:
            evaluation = _ParallelEvaluation(self, queue, order, alive, selector)
            try:
                evaluation.run()
            finally:
                evaluation.leave()
        return queue.found

    def exclude(self, worker_process: WorkerProcess, why: str) -> None:
        """Exclude a worker that cannot make a copy to play in."""
        if worker_process.index not in self._unable:
            self._unable.add(worker_process.index)
            warnings.warn(
                f"evaluations continue without worker {worker_process.index} "
                f"(the score does not change): {why}",
                RuntimeWarning,
                stacklevel=2,
            )


class _ParallelEvaluation:
    """The episodes of one task, and the workers that play them."""

    def __init__(
        self,
        players: ProcessPlayers,
        queue: EpisodeQueue,
        order: Callable[[int, list[tuple[int, int]]], bytes],
        alive: Callable[[], None],
        selector: selectors.BaseSelector,
    ) -> None:
        self._players = players
        self._supervision, self._heartbeats = players.supervision, players.heartbeats
        self._queue = queue
        self._order = order
        self._alive = alive
        self._selector = selector
        for worker_process in players.workers.values():
            worker_process.episodes.clear()
            selector.register(worker_process.pipe, selectors.EVENT_READ, (worker_process, True))
            selector.register(
                worker_process.process.sentinel, selectors.EVENT_READ, (worker_process, False)
            )

    def run(self) -> None:
        interval = self._supervision.interval
        next_check = time.monotonic()
        while self._hand_out():
            self._alive()
            signalled: list[tuple[WorkerProcess, bool]] = [
                key.data for key, _ in self._selector.select(interval)
            ]
            for worker_process, speaks in signalled:
                if speaks:
                    self._listen(worker_process)
            for worker_process, speaks in signalled:
                if not speaks and not worker_process.pipe.has_mail():
                    self._ended(worker_process)
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + interval
                self._check_workers()

    def leave(self) -> None:
        """Stop expecting signs of life from waiting workers until the server answers them."""
        for worker_process in self._players.workers.values():
            if worker_process.is_waiting:
                self._heartbeats.leave(worker_process.index)

    def _hand_out(self) -> bool:
        """Give free workers episodes; return whether there is anything left to wait for."""
        self._queue.drop_unneeded()
        late = set(self._heartbeats.overdue(self._supervision.worker_timeout))
        able = [one for one in self._players.able() if one.is_waiting or one.index not in late]
        playing = sum(len(one.episodes) for one in able)
        if not able or not (playing or self._queue):
            return False
        share = -(-(playing + len(self._queue)) // len(able))
        given: dict[int, list[tuple[int, int]]] = {}
        while self._queue:
            free = [
                one for one in able if one.is_waiting and len(one.episodes) < min(one.lanes, share)
            ]
            if not free:
                break
            worker_process = min(free, key=lambda one: len(one.episodes))
            number, seed = self._queue.take()
            worker_process.episodes[number] = seed
            given.setdefault(worker_process.index, []).append((number, seed))
        for index, episodes in given.items():
            self._send(self._players.workers[index], share, episodes)
        return True

    def _send(
        self, worker_process: WorkerProcess, share: int, episodes: list[tuple[int, int]]
    ) -> None:
        """Send a worker episodes, in addition to those that it is already playing."""
        index = worker_process.index
        if not worker_process.has_played:
            # It may have to compile the policy first.
            self._heartbeats.beat(index, START_SECONDS)
            worker_process.has_played = True
        elif len(worker_process.episodes) == len(episodes):
            self._heartbeats.beat(index)
        try:
            worker_process.pipe.send(self._order(min(self._players.copies(index), share), episodes))
        except OSError:
            self._ended(worker_process)

    def _is_listed(self, worker_process: WorkerProcess) -> bool:
        return worker_process.pipe.fileno() in self._selector.get_map()

    def _unlist(self, worker_process: WorkerProcess) -> None:
        worker_process.can_play = False
        self._selector.unregister(worker_process.pipe)
        self._selector.unregister(worker_process.process.sentinel)

    def _listen(self, worker_process: WorkerProcess) -> None:
        try:
            messages = worker_process.pipe.receive()
        except (EOFError, OSError):
            self._ended(worker_process)
            return
        for message in messages:
            self._handle(worker_process, message)

    def _handle(self, worker_process: WorkerProcess, message: bytes) -> None:
        kind, content = message[:1], message[1:]
        if kind not in (ALIVE, LANES, PLAYED, CANNOT_PLAY, PLAY_FAILED):
            worker_process.keep(message)
            if kind == ERROR and worker_process.episodes:
                self._lost(worker_process, self._worker_error(worker_process, *json.loads(content)))
            return
        self._heartbeats.beat(worker_process.index)
        if kind == LANES:
            worker_process.lanes = max(1, content[0])
        elif kind == PLAYED:
            number, *episode = json.loads(content)
            worker_process.episodes.pop(number, None)
            self._queue.over(number, Episode(*episode))
        elif kind == CANNOT_PLAY:
            self._players.exclude(worker_process, content.decode(errors="replace"))
            self._give_back(worker_process)
        elif kind == PLAY_FAILED:
            self._failed(worker_process, *json.loads(content))
        if worker_process.ready and not worker_process.episodes:
            self._heartbeats.leave(worker_process.index)

    def _give_back(self, worker_process: WorkerProcess) -> None:
        """Return a worker's episodes to the front of the queue, for other workers."""
        self._queue.give_back(worker_process.episodes)
        worker_process.episodes.clear()

    def _failed(
        self, worker_process: WorkerProcess, is_environment: bool, cause: str, traceback: str
    ) -> None:
        # What ends the run (such as Ctrl-C) may have reached the environment, too.
        self._alive()
        if is_environment:
            environment = self._supervision.environment
            raise EnvironmentFailureError(
                f"worker {worker_process.index} failed in an evaluation in {environment}: {cause}",
                traceback,
            )
        raise self._worker_error(worker_process, cause, traceback)

    def _ended(self, worker_process: WorkerProcess) -> None:
        """Handle the end of a worker's process; the launcher notices it after the evaluation."""
        if not self._is_listed(worker_process):
            return
        self._unlist(worker_process)
        how = describe_exit(worker_process.exit_code())
        self._lost(
            worker_process,
            self._worker_error(worker_process, f"its process {how} in an evaluation"),
        )

    def _worker_error(
        self, worker_process: WorkerProcess, cause: str, traceback: str = ""
    ) -> WorkerError:
        seed = next(iter(worker_process.episodes.values()), worker_process.seed)
        return WorkerError(
            worker_process.index, self._supervision.environment, seed, cause, traceback
        )

    def _check_workers(self) -> None:
        for worker_process in self._players.workers.values():
            # A process forked by an environment may hold the pipe and the sentinel open.
            if not worker_process.process.is_alive() and not worker_process.pipe.has_mail():
                self._ended(worker_process)
        for index in self._heartbeats.overdue(self._supervision.worker_timeout):
            hung = self._players.workers.get(index)
            if hung is not None and hung.episodes and not hung.pipe.has_mail():
                self._hangs(hung)

    def _hangs(self, worker_process: WorkerProcess) -> None:
        seeds = ", ".join(map(str, worker_process.episodes.values()))
        where = f"in an evaluation, with environment seed {seeds}"
        error = self._supervision.hung(
            worker_process.index, "; ".join(filter(None, (where, worker_process.last_word)))
        )
        self._unlist(worker_process)
        worker_process.condemn(error)
        self._lost(worker_process, error)

    def _lost(self, worker_process: WorkerProcess, error: Exception) -> None:
        self._alive()
        self._queue.lose(worker_process.episodes, error)
        worker_process.episodes.clear()
