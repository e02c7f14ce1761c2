"""The parent's side of an evaluation that worker processes play.

Episodes are handed out as workers are free, so that the cores are busy to the end; a worker that is
in a cycle takes part from when it has brought its contribution, which is heard afterwards, as is
whatever else concerns the owner. Those of a worker that dies or hangs are played by another one.
"""

import json
import selectors
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping

from poise.errors import EnvironmentFailureError, WorkerError
from poise.launchers.board import Board
from poise.launchers.child import ERROR, START_SECONDS
from poise.launchers.failure import describe_exit
from poise.launchers.loan import Task
from poise.launchers.part import (
    ALIVE,
    CANNOT_PLAY,
    LANES,
    PLAY_FAILED,
    PLAYED,
    pack_order,
    pack_sampling,
)
from poise.launchers.seat import ChildSeat, wait_for_end
from poise.launchers.supervision import Heartbeats, Supervision
from poise.learning.verdict import Episode

__all__ = ["SeatedPlayers"]

ATTEMPTS = 2
"""Workers that an episode may be the end of, before the run ends, too."""
_EXIT_SECONDS = 5.0
"""How long the exit code of a process that has closed its pipe is waited for."""


class SeatedPlayers:
    """Workers in processes, as players.

    Args:
        seats: the workers that there are.
        copies: copies that each may play in at most, by its number; 0 where it may not play.
        board: where they read the policy.
        supervision: how the run watches.
        heartbeats: when workers last gave a sign of life.
    """

    def __init__(
        self,
        seats: Mapping[int, ChildSeat],
        copies: Callable[[int], int],
        board: Board,
        supervision: Supervision,
        heartbeats: Heartbeats,
    ) -> None:
        self._seats = seats
        self._copies = copies
        self._board = board
        self._supervision = supervision
        self._heartbeats = heartbeats
        self._unable: set[int] = set()

    def are_there(self) -> bool:
        """Whether any worker can play."""
        return any(self._can_play(seat) for seat in self._seats.values())

    def play(
        self, task: Task, alive: Callable[[], None], done: Callable[[int], None]
    ) -> dict[int, Episode]:
        """Play episodes, until all are over or nobody is left who can; see `Players`."""
        policy = None if task.snapshot is None else self._board.post(task.snapshot)
        with selectors.DefaultSelector() as selector:
            shift = _Shift(self, task, policy, alive, done, selector)
            try:
                shift.run()
            finally:
                shift.leave()
            return shift.found

    def _can_play(self, seat: ChildSeat) -> bool:
        return seat.can_play and seat.index not in self._unable and self._copies(seat.index) > 0

    def _exclude(self, seat: ChildSeat, why: str) -> None:
        """It cannot make a copy to play in."""
        if seat.index not in self._unable:
            self._unable.add(seat.index)
            warnings.warn(
                f"evaluations go on without worker {seat.index}, to the same score: {why}",
                RuntimeWarning,
                stacklevel=2,
            )


class _Shift:
    """One task."""

    def __init__(
        self,
        players: SeatedPlayers,
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
        """Episodes that have been handed out: the first so many."""
        self._steps = 0
        self._ends: Counter[int] = Counter()
        """Workers that an episode was the end of."""
        self.found: dict[int, Episode] = {}
        for seat in players._seats.values():
            seat.part.clear()
            selector.register(seat.wire, selectors.EVENT_READ, (seat, True))
            selector.register(seat.process.sentinel, selectors.EVENT_READ, (seat, False))

    def run(self) -> None:
        interval = self._supervision.interval
        look_after = time.monotonic()
        while self._hand_out():
            self._alive()
            signalled: list[tuple[ChildSeat, bool]] = [
                key.data for key, _ in self._selector.select(interval)
            ]
            for seat, speaks in signalled:
                if speaks:
                    self._listen(seat)
            for seat, speaks in signalled:
                if not speaks and not seat.wire.has_mail():
                    self._ended(seat)
            if time.monotonic() >= look_after:
                look_after = time.monotonic() + interval
                self._look_after()

    def leave(self) -> None:
        """Nobody expects them to say anything until the owner has answered them."""
        for seat in self._players._seats.values():
            if seat.is_waiting:
                self._heartbeats.leave(seat.index)

    def _is_enough(self) -> bool:
        budget = self._task.step_budget
        return budget is not None and self._begun > 0 and self._steps >= budget

    def _hand_out(self) -> bool:
        """Give those who are free something to play; says whether there is anything to wait for."""
        if self._is_enough():
            # Of what was begun, all is needed: it may be that only later ones are over.
            self._waiting = deque(one for one in self._waiting if one[0] < self._begun)
        able = [seat for seat in self._players._seats.values() if self._players._can_play(seat)]
        late = set(self._heartbeats.overdue(self._supervision.worker_timeout))
        able = [seat for seat in able if seat.is_waiting or seat.index not in late]
        playing = sum(len(seat.part) for seat in able)
        if not able or not (playing or self._waiting):
            return False
        share = -(-(playing + len(self._waiting)) // len(able))
        given: dict[int, list[tuple[int, int]]] = {}
        while self._waiting:
            free = [s for s in able if s.is_waiting and len(s.part) < min(s.lanes, share)]
            if not free:
                break
            seat = min(free, key=lambda one: len(one.part))
            number, seed = self._waiting.popleft()
            self._begun = max(self._begun, number + 1)
            seat.part[number] = seed
            given.setdefault(seat.index, []).append((number, seed))
        for index, episodes in given.items():
            seat = self._players._seats[index]
            lanes = min(self._players._copies(index), share)
            if not seat.has_played:
                # It may compile what acts first.
                self._heartbeats.beat(index, START_SECONDS)
                seat.has_played = True
            elif len(seat.part) == len(episodes):
                self._heartbeats.beat(index)
            try:
                seat.wire.send(self._order(lanes, episodes))
            except OSError:
                self._ended(seat)
        return True

    def _order(self, lanes: int, episodes: list[tuple[int, int]]) -> bytes:
        limit = self._task.step_limit
        return pack_order(self._policy, self._sampling, limit, lanes, episodes)

    def _is_listed(self, seat: ChildSeat) -> bool:
        return seat.wire.fileno() in self._selector.get_map()

    def _unlist(self, seat: ChildSeat) -> None:
        seat.can_play = False
        self._selector.unregister(seat.wire)
        self._selector.unregister(seat.process.sentinel)

    def _listen(self, seat: ChildSeat) -> None:
        try:
            messages = seat.wire.receive()
        except (EOFError, OSError):
            self._ended(seat)
            return
        for message in messages:
            self._hear(seat, message)

    def _hear(self, seat: ChildSeat, message: bytes) -> None:
        kind, content = message[:1], message[1:]
        if kind not in (ALIVE, LANES, PLAYED, CANNOT_PLAY, PLAY_FAILED):
            seat.keep(message)
            if kind == ERROR and seat.part:
                self._lost(seat, self._worker_error(seat, *json.loads(content)))
            return
        self._heartbeats.beat(seat.index)
        if kind == LANES:
            seat.lanes = max(1, content[0])
        elif kind == PLAYED:
            number, *episode = json.loads(content)
            seat.part.pop(number, None)
            self._over(number, Episode(*episode))
        elif kind == CANNOT_PLAY:
            self._players._exclude(seat, content.decode(errors="replace"))
            self._give_back(seat)
        elif kind == PLAY_FAILED:
            self._failed(seat, *json.loads(content))
        if not seat.part:
            self._heartbeats.leave(seat.index)

    def _over(self, number: int, episode: Episode) -> None:
        if number not in self.found:
            self.found[number] = episode
            self._steps += episode.length
            self._done(len(self.found))

    def _give_back(self, seat: ChildSeat) -> None:
        """What it was to play is played by others, and first."""
        self._waiting.extendleft(sorted(seat.part.items(), reverse=True))
        seat.part.clear()

    def _failed(self, seat: ChildSeat, is_environment: bool, cause: str, traceback: str) -> None:
        # What ends the run may have reached the environment, too.
        self._alive()
        if is_environment:
            environment = self._supervision.environment
            raise EnvironmentFailureError(
                f"worker {seat.index} failed in an evaluation in {environment}: {cause}", traceback
            )
        raise self._worker_error(seat, cause, traceback)

    def _ended(self, seat: ChildSeat) -> None:
        """Its process has ended: the launcher finds that, too, when the evaluation is over."""
        if not self._is_listed(seat):
            return
        self._unlist(seat)
        wait_for_end([seat], _EXIT_SECONDS)
        how = describe_exit(seat.process.exitcode)
        self._lost(seat, self._worker_error(seat, f"its process {how} in an evaluation"))

    def _worker_error(self, seat: ChildSeat, cause: str, traceback: str = "") -> WorkerError:
        seed = next(iter(seat.part.values()), seat.seed)
        return WorkerError(seat.index, self._supervision.environment, seed, cause, traceback)

    def _look_after(self) -> None:
        for seat in self._players._seats.values():
            # A process that an environment forked may hold pipe and sentinel open.
            if not seat.process.is_alive() and not seat.wire.has_mail():
                self._ended(seat)
        for index in self._heartbeats.overdue(self._supervision.worker_timeout):
            seat_of = self._players._seats.get(index)
            if seat_of is not None and seat_of.part and not seat_of.wire.has_mail():
                self._hangs(seat_of)

    def _hangs(self, seat: ChildSeat) -> None:
        seeds = ", ".join(map(str, seat.part.values()))
        where = f"in an evaluation, with environment seed {seeds}"
        error = self._supervision.hung(seat.index, "; ".join(filter(None, (where, seat.last_word))))
        self._unlist(seat)
        seat.condemn(error)
        self._lost(seat, error)

    def _lost(self, seat: ChildSeat, error: Exception) -> None:
        self._alive()
        for number in seat.part:
            self._ends[number] += 1
            if self._ends[number] >= ATTEMPTS:
                raise error
        self._give_back(seat)
