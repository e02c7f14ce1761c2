"""The parent's side of an evaluation that worker processes play.

Episodes are handed out as workers are free, so that the cores are busy to the end; a worker that is
in a cycle takes part from when it has brought its update, which is heard afterwards, as is
whatever else concerns the server. Those of a worker that dies or hangs are played by another one.
"""

import json
import selectors
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping

from poise.errors import EnvironmentFailureError, WorkerError
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
from poise.launchers.worker_process import WorkerProcess, wait_for_end
from poise.learning.evaluation_result import Episode

__all__ = ["ProcessPlayers"]

ATTEMPTS = 2
"""Workers that an episode may be the end of, before the run ends, too."""
_EXIT_SECONDS = 5.0
"""How long the exit code of a process that has closed its pipe is waited for."""


class ProcessPlayers:
    """Workers in processes, as players.

    Args:
        records: the workers that there are.
        copies: copies that each may play in at most, by its number; 0 where it may not play.
        shared_policy: where they read the policy.
        supervision: how the run watches.
        heartbeats: when workers last gave a sign of life.
    """

    def __init__(
        self,
        worker_processes: Mapping[int, WorkerProcess],
        copies: Callable[[int], int],
        shared_policy: SharedPolicy,
        supervision: Supervision,
        heartbeats: Heartbeats,
    ) -> None:
        self._worker_processes = worker_processes
        self._copies = copies
        self._shared_policy = shared_policy
        self._supervision = supervision
        self._heartbeats = heartbeats
        self._unable: set[int] = set()

    def are_there(self) -> bool:
        """Whether any worker can play."""
        return any(
            self._can_play(worker_process) for worker_process in self._worker_processes.values()
        )

    def play(
        self, task: Task, alive: Callable[[], None], done: Callable[[int], None]
    ) -> dict[int, Episode]:
        """Play episodes, until all are over or nobody is left who can; see `Players`."""
        policy = None if task.snapshot is None else self._shared_policy.post(task.snapshot)
        with selectors.DefaultSelector() as selector:
            shift = _Shift(self, task, policy, alive, done, selector)
            try:
                shift.run()
            finally:
                shift.leave()
            return shift.found

    def _can_play(self, worker_process: WorkerProcess) -> bool:
        return (
            worker_process.can_play
            and worker_process.index not in self._unable
            and self._copies(worker_process.index) > 0
        )

    def _exclude(self, worker_process: WorkerProcess, why: str) -> None:
        """It cannot make a copy to play in."""
        if worker_process.index not in self._unable:
            self._unable.add(worker_process.index)
            warnings.warn(
                f"evaluations go on without worker {worker_process.index}, "
                f"to the same score: {why}",
                RuntimeWarning,
                stacklevel=2,
            )


class _Shift:
    """One task."""

    def __init__(
        self,
        players: ProcessPlayers,
        task: Task,
        policy: int | None,
        alive: Callable[[], None],
        done: Callable[[int], None],
        selector: selectors.BaseSelector,
    ) -> None:
        self._players = players
        self._supervision, self._heartbeats = players._supervision, players._heartbeats
        self._task = task
        self._policy, self._sampling = policy, pack_sampling(task.sampling)
        self._alive = alive
        self._done = done
        self._selector = selector
        self._waiting = deque(enumerate(task.seeds))
        self._begun = 0
        """Episodes that have been handed out: the first this many."""
        self._steps = 0
        self._ends: Counter[int] = Counter()
        """Workers that an episode was the end of."""
        self.found: dict[int, Episode] = {}
        for worker_process in players._worker_processes.values():
            worker_process.part.clear()
            selector.register(worker_process.pipe, selectors.EVENT_READ, (worker_process, True))
            selector.register(
                worker_process.process.sentinel, selectors.EVENT_READ, (worker_process, False)
            )

    def run(self) -> None:
        interval = self._supervision.interval
        look_after = time.monotonic()
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
            if time.monotonic() >= look_after:
                look_after = time.monotonic() + interval
                self._look_after()

    def leave(self) -> None:
        """Nobody expects them to say anything until the server has answered them."""
        for worker_process in self._players._worker_processes.values():
            if worker_process.is_waiting:
                self._heartbeats.leave(worker_process.index)

    def _is_enough(self) -> bool:
        budget = self._task.step_budget
        return budget is not None and self._begun > 0 and self._steps >= budget

    def _hand_out(self) -> bool:
        """Give those who are free something to play; says whether there is anything to wait for."""
        if self._is_enough():
            # Of what was begun, all is needed: it may be that only later ones are over.
            self._waiting = deque(one for one in self._waiting if one[0] < self._begun)
        able = [
            worker_process
            for worker_process in self._players._worker_processes.values()
            if self._players._can_play(worker_process)
        ]
        late = set(self._heartbeats.overdue(self._supervision.worker_timeout))
        able = [
            worker_process
            for worker_process in able
            if worker_process.is_waiting or worker_process.index not in late
        ]
        playing = sum(len(worker_process.part) for worker_process in able)
        if not able or not (playing or self._waiting):
            return False
        share = -(-(playing + len(self._waiting)) // len(able))
        given: dict[int, list[tuple[int, int]]] = {}
        while self._waiting:
            free = [s for s in able if s.is_waiting and len(s.part) < min(s.lanes, share)]
            if not free:
                break
            worker_process = min(free, key=lambda one: len(one.part))
            number, seed = self._waiting.popleft()
            self._begun = max(self._begun, number + 1)
            worker_process.part[number] = seed
            given.setdefault(worker_process.index, []).append((number, seed))
        for index, episodes in given.items():
            worker_process = self._players._worker_processes[index]
            lanes = min(self._players._copies(index), share)
            if not worker_process.has_played:
                # It may compile what acts first.
                self._heartbeats.beat(index, START_SECONDS)
                worker_process.has_played = True
            elif len(worker_process.part) == len(episodes):
                self._heartbeats.beat(index)
            try:
                worker_process.pipe.send(self._order(lanes, episodes))
            except OSError:
                self._ended(worker_process)
        return True

    def _order(self, lanes: int, episodes: list[tuple[int, int]]) -> bytes:
        limit = self._task.step_limit
        return pack_order(self._policy, self._sampling, limit, lanes, episodes)

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
            self._hear(worker_process, message)

    def _hear(self, worker_process: WorkerProcess, message: bytes) -> None:
        kind, content = message[:1], message[1:]
        if kind not in (ALIVE, LANES, PLAYED, CANNOT_PLAY, PLAY_FAILED):
            worker_process.keep(message)
            if kind == ERROR and worker_process.part:
                self._lost(worker_process, self._worker_error(worker_process, *json.loads(content)))
            return
        self._heartbeats.beat(worker_process.index)
        if kind == LANES:
            worker_process.lanes = max(1, content[0])
        elif kind == PLAYED:
            number, *episode = json.loads(content)
            worker_process.part.pop(number, None)
            self._over(number, Episode(*episode))
        elif kind == CANNOT_PLAY:
            self._players._exclude(worker_process, content.decode(errors="replace"))
            self._give_back(worker_process)
        elif kind == PLAY_FAILED:
            self._failed(worker_process, *json.loads(content))
        if worker_process.ready and not worker_process.part:
            self._heartbeats.leave(worker_process.index)

    def _over(self, number: int, episode: Episode) -> None:
        if number not in self.found:
            self.found[number] = episode
            self._steps += episode.length
            self._done(len(self.found))

    def _give_back(self, worker_process: WorkerProcess) -> None:
        """What it was to play is played by others, and first."""
        self._waiting.extendleft(sorted(worker_process.part.items(), reverse=True))
        worker_process.part.clear()

    def _failed(
        self, worker_process: WorkerProcess, is_environment: bool, cause: str, traceback: str
    ) -> None:
        # What ends the run may have reached the environment, too.
        self._alive()
        if is_environment:
            environment = self._supervision.environment
            raise EnvironmentFailureError(
                f"worker {worker_process.index} failed in an evaluation in {environment}: {cause}",
                traceback,
            )
        raise self._worker_error(worker_process, cause, traceback)

    def _ended(self, worker_process: WorkerProcess) -> None:
        """Its process has ended: the launcher finds that, too, when the evaluation is over."""
        if not self._is_listed(worker_process):
            return
        self._unlist(worker_process)
        wait_for_end([worker_process], _EXIT_SECONDS)
        how = describe_exit(worker_process.process.exitcode)
        self._lost(
            worker_process,
            self._worker_error(worker_process, f"its process {how} in an evaluation"),
        )

    def _worker_error(
        self, worker_process: WorkerProcess, cause: str, traceback: str = ""
    ) -> WorkerError:
        seed = next(iter(worker_process.part.values()), worker_process.seed)
        return WorkerError(
            worker_process.index, self._supervision.environment, seed, cause, traceback
        )

    def _look_after(self) -> None:
        for worker_process in self._players._worker_processes.values():
            # A process that an environment forked may hold pipe and sentinel open.
            if not worker_process.process.is_alive() and not worker_process.pipe.has_mail():
                self._ended(worker_process)
        for index in self._heartbeats.overdue(self._supervision.worker_timeout):
            seat_of = self._players._worker_processes.get(index)
            if seat_of is not None and seat_of.part and not seat_of.pipe.has_mail():
                self._hangs(seat_of)

    def _hangs(self, worker_process: WorkerProcess) -> None:
        seeds = ", ".join(map(str, worker_process.part.values()))
        where = f"in an evaluation, with environment seed {seeds}"
        error = self._supervision.hung(
            worker_process.index, "; ".join(filter(None, (where, worker_process.last_word)))
        )
        self._unlist(worker_process)
        worker_process.condemn(error)
        self._lost(worker_process, error)

    def _lost(self, worker_process: WorkerProcess, error: Exception) -> None:
        self._alive()
        for number in worker_process.part:
            self._ends[number] += 1
            if self._ends[number] >= ATTEMPTS:
                raise error
        self._give_back(worker_process)
