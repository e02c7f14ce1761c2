"""Workers as processes: for environments that hold the GIL.

Spawned, never forked. The owner lives in the parent, in one thread; each worker has a mailbox in
anonymous shared memory and one pipe for signals, waited on together with the process sentinels.
There is no lock, queue or event that a killed process could hold: a worker may be killed at any
instant, and nobody freezes and nothing is half applied.
"""

import contextlib
import json
import multiprocessing
import selectors
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any

from poise.errors import InputError, PoiseError, WorkerError
from poise.launchers.board import Board
from poise.launchers.child import (
    BATCH,
    COMPILED,
    ERROR,
    LAST_WORD,
    MISSING_GUARD_EXIT_CODE,
    READY,
    RELEASE,
    RELEASED,
    SIGNAL,
    START_SECONDS,
    WorkerFactory,
    pickle_factory,
)
from poise.launchers.failure import Failure, describe_exit
from poise.launchers.loan import NO_LOAN, Loan
from poise.launchers.mailbox import MailboxShape, TornMessageError, unpack_batch
from poise.launchers.part import MakesPlayers
from poise.launchers.players import SeatedPlayers
from poise.launchers.seat import ChildSeat, wait_for_end
from poise.launchers.supervision import Heartbeats, Supervision
from poise.learning.journal import StopReason
from poise.learning.owner import Owner
from poise.trajectory import Snapshot

__all__ = ["run_processes"]

LEAVE_SECONDS = 5.0
"""How long a process may take to end its cycle, before it is told to give it up."""


def run_processes(
    owner: Owner,
    factory: WorkerFactory,
    workers: Sequence[tuple[int, int]],
    shape: MailboxShape,
    supervision: Supervision,
    heartbeats: Heartbeats,
    conclude: Callable[[], object] = lambda: None,
) -> None:
    """Run workers in processes until the owner stops.

    Args:
        owner: lives in this thread.
        factory: makes a worker in its process.
        workers: (index, incarnation) of each.
        shape: of the mailboxes.
        supervision: how the run watches.
        heartbeats: when workers last gave a sign of life.
        conclude: called when the owner has stopped, while the workers are still there.

    Raises:
        WorkerError: a worker raised or died once too often; the others have been stopped.
        DeadlineError: a worker hung once too often.
        InputError: the processes begin to run the user's script instead.
    """
    payload = pickle_factory(factory, supervision.environment)
    team = _Team(owner, payload, shape, supervision, heartbeats)
    players = team.players(factory.copies) if isinstance(factory, MakesPlayers) else None
    supervision.lend(Loan(team.release, players))
    try:
        for index, incarnation in workers:
            team.start(index, incarnation)
        team.run()
        conclude()
    finally:
        owner.stop(StopReason.FAILED)
        supervision.lend(NO_LOAN)
        team.close()


class _Team:
    """The parent's side."""

    def __init__(
        self,
        owner: Owner,
        payload: bytes,
        shape: MailboxShape,
        supervision: Supervision,
        heartbeats: Heartbeats,
    ) -> None:
        self._owner = owner
        self._payload = payload
        self._shape = shape
        self._supervision = supervision
        self._heartbeats = heartbeats
        self._board = Board(multiprocessing.get_context("spawn"), shape)
        self._seats: dict[int, ChildSeat] = {}
        self._selector = selectors.DefaultSelector()
        self._restarts = 0
        self._leaving: list[tuple[ChildSeat, float]] = []
        """Told to leave; and when that takes too long."""

    def players(self, copies: Callable[[int], int]) -> SeatedPlayers:
        """The workers, as players."""
        return SeatedPlayers(self._seats, copies, self._board, self._supervision, self._heartbeats)

    def start(self, index: int, incarnation: int) -> None:
        self._heartbeats.beat(index, START_SECONDS)
        patience = self._supervision.worker_timeout
        try:
            seat = ChildSeat(index, incarnation, self._payload, self._shape, patience, self._board)
        except OSError as error:
            cause = f"its process cannot be started: {error.strerror or error}"
            raise WorkerError(index, self._supervision.environment, 0, cause) from error
        self._seats[index] = seat
        self._selector.register(seat.wire, selectors.EVENT_READ, (seat, True))
        self._selector.register(seat.process.sentinel, selectors.EVENT_READ, (seat, False))

    def _forget(self, seat: ChildSeat) -> None:
        del self._seats[seat.index]
        self._selector.unregister(seat.wire)
        self._selector.unregister(seat.process.sentinel)

    def close(self) -> None:
        """Let every process close its environments; none is there afterwards."""
        seats = list(self._seats.values())
        for seat in seats:
            self._heartbeats.leave(seat.index)
            self._forget(seat)
            seat.let_go()
        seats += [seat for seat, _ in self._leaving]
        self._leaving.clear()
        try:
            for seat in wait_for_end(seats, LEAVE_SECONDS):
                seat.urge()
            for seat in wait_for_end(seats, self._supervision.close_timeout):
                self._report_unclosed(seat)
        finally:
            # Also where somebody does not want to wait any longer.
            for seat in seats:
                seat.close()
            self._selector.close()

    def _report_unclosed(self, seat: ChildSeat) -> None:
        self._supervision.on_unclosed(
            f"worker {seat.index} in {self._supervision.environment} has not closed its "
            f"environments within {self._supervision.close_timeout:g} s: it is killed, with "
            "whatever they have started"
        )

    def _see_off(self) -> None:
        """Look after those that have been told to leave."""
        for seat, end in list(self._leaving):
            late = time.monotonic() > end
            if late and seat.process.is_alive():
                self._report_unclosed(seat)
            if late or not seat.process.is_alive():
                self._leaving.remove((seat, end))
                seat.close()

    def release(self) -> None:
        """Have all environments closed, which their workers make anew in their next cycle.

        Raises:
            DeadlineError: a worker does not answer.
        """
        for seat in list(self._seats.values()):
            # Of one that has died, nothing is open any more.
            with contextlib.suppress(EOFError, OSError):
                seat.wire.send(SIGNAL.pack(RELEASE, 0))
                if not self._released(seat):
                    raise self._supervision.hung(seat.index, seat.last_word)

    def _released(self, seat: ChildSeat) -> bool:
        end = time.monotonic() + self._supervision.worker_timeout
        while time.monotonic() < end:
            if not connection.wait([seat.wire.fileno()], self._supervision.interval):
                continue
            for message in seat.wire.receive():
                if message[:1] == RELEASED:
                    return True
                if message[:1] == LAST_WORD:
                    seat.last_word = message[1:].decode(errors="replace")
                # What else it says comes from the cycle that it was in when the run was stopped,
                # and is refused.
        return False

    def run(self) -> None:
        interval = self._supervision.interval
        look_after = time.monotonic()
        while not self._owner.stopped:
            # What came while an evaluation was under way has not been heard yet.
            unheard = [seat for seat in self._seats.values() if seat.inbox]
            signalled: list[tuple[ChildSeat, bool]] = [
                key.data for key, _ in self._selector.select(0 if unheard else interval)
            ]
            # Pipes first: a last word counts more than the death behind it.
            for seat in unheard + [one for one, speaks in signalled if speaks]:
                self._listen(seat)
            for seat, speaks in signalled:
                # What it sent before it died is heard first, in the next round.
                if not speaks and self._hears(seat) and not seat.has_mail():
                    self._died(seat)
            now = time.monotonic()
            if now >= look_after:
                look_after = now + interval
                self._look_after()

    def _look_after(self) -> None:
        """What need not be done for every message."""
        self._see_off()
        for seat in list(self._seats.values()):
            # A process that an environment forked may hold pipe and sentinel open.
            if not seat.process.is_alive() and not seat.has_mail():
                self._died(seat)
        reason = self._supervision.pump()
        if reason is not None:
            self._owner.stop(reason)
        for index in self._heartbeats.overdue(self._supervision.worker_timeout):
            # Nobody listened while an evaluation was under way.
            if not self._owner.stopped and not self._seats[index].has_mail():
                self._hangs(self._seats[index])

    def _is_there(self, seat: ChildSeat) -> bool:
        return self._seats.get(seat.index) is seat

    def _listen(self, seat: ChildSeat) -> None:
        """Take what a worker has sent, and answer."""
        is_gone = False
        if self._hears(seat) and seat.wire.has_mail():
            try:
                seat.listen()
            except (EOFError, OSError):
                is_gone = True
        # An evaluation that one message leads to may let more come.
        while self._hears(seat) and seat.inbox:
            self._hear(seat, seat.inbox.popleft())
        if is_gone and self._hears(seat):
            self._died(seat)

    def _hears(self, seat: ChildSeat) -> bool:
        return not self._owner.stopped and self._is_there(seat)

    def _hear(self, seat: ChildSeat, message: bytes) -> None:
        kind = message[:1]
        if kind == ERROR:
            self._failed(seat, Failure(*json.loads(message[1:])))
        elif kind == COMPILED:
            # From here on, only its environment can keep it waiting.
            seat.seed = SIGNAL.unpack(message)[1]
            self._heartbeats.beat(seat.index)
        elif kind == LAST_WORD:
            seat.last_word = message[1:].decode(errors="replace")
        elif kind == BATCH:
            seat.batch = unpack_batch(message[1:])
        elif kind == READY:
            seat.ready = True
            self._heartbeats.beat(seat.index)
            self._admit(seat)
        else:
            self._receive(seat, SIGNAL.unpack(message)[1])

    def _admit(self, seat: ChildSeat) -> None:
        """Let a worker begin, or go on where the run was cut."""
        before = self._owner.rejoin(seat.index)
        if before is not None:
            self._send(seat, before.snapshot, before.deposit)
            return
        try:
            state = seat.initial_state()
        except TornMessageError as error:
            self._gone(seat, f"sent a damaged state: {error}")
            return
        self._send(seat, self._owner.join(seat.index, seat.incarnation, state))

    def _receive(self, seat: ChildSeat, sequence: int) -> None:
        self._heartbeats.beat(seat.index)
        try:
            contribution, state = seat.contribution(sequence)
        except TornMessageError as error:
            self._gone(seat, f"sent a damaged contribution: {error}")
            return
        seat.last_word = ""
        answers = self._owner.receive(seat.index, contribution, state)
        self._heartbeats.beat(seat.index)
        for index, snapshot in answers.items():
            self._send(self._seats[index], snapshot)

    @staticmethod
    def _send(seat: ChildSeat, snapshot: Snapshot, state: Any = None) -> None:
        # Where it has died since, its sentinel tells the same in a moment.
        with contextlib.suppress(OSError):
            seat.send(snapshot, state)

    def _died(self, seat: ChildSeat) -> None:
        # The sentinel fires a moment before the exit code is there.
        wait_for_end([seat], LEAVE_SECONDS)
        if seat.fault is not None:
            self._lost_to(seat, seat.fault)
            return
        code = seat.process.exitcode
        if code == MISSING_GUARD_EXIT_CODE:
            raise InputError(
                "a worker process began to run your script again: put the call of poise.train "
                "under  if __name__ == '__main__':  (worker processes import the script), or "
                "use launcher='threads'"
            )
        how = describe_exit(code)
        if not seat.ready:
            how += " before it was ready"
        self._gone(seat, how)

    def _hangs(self, seat: ChildSeat) -> None:
        where = "; ".join(filter(None, (f"environment seed {seat.seed}", seat.last_word)))
        self._lost_to(seat, self._supervision.hung(seat.index, where))

    def _lost_to(self, seat: ChildSeat, error: PoiseError) -> None:
        self._lost(seat, str(error).partition("; what was learned")[0], error)

    def _lost(self, seat: ChildSeat, what: str, error: Exception) -> None:
        """A worker is gone through no fault of its environment's.

        It is started again while that may be done; then the run goes on without it, and ends when
        it was the last one.
        """
        reason = self._supervision.pump()
        if reason is not None:
            # What ends the run may have ended the worker, too.
            self._owner.stop(reason)
            return
        if self._restart(seat, what):
            return
        if len(self._seats) == 1:
            raise error
        self._supervision.on_loss(what)
        self._dismiss(seat)

    def _gone(self, seat: ChildSeat, how: str) -> None:
        """A worker's process has ended, or cannot be trusted any more."""
        environment = self._supervision.environment
        what = f"worker {seat.index} in {environment} (environment seed {seat.seed}) {how}"
        cause = f"the worker's process {how}"
        self._lost(seat, what, WorkerError(seat.index, environment, seat.seed, cause))

    def _failed(self, seat: ChildSeat, failure: Failure) -> None:
        """A worker raised."""
        reason = self._supervision.pump()
        if reason is not None:
            # What ends the run may have reached the environment, too.
            self._owner.stop(reason)
            return
        what = f"worker {seat.index} (environment seed {seat.seed}) failed: {failure.cause}"
        if (
            self._supervision.restart_on_error
            and seat.ready
            and self._restart(seat, what, is_leaving=True)
        ):
            return
        raise WorkerError(seat.index, self._supervision.environment, seat.seed, *failure)

    def _restart(self, seat: ChildSeat, what: str, is_leaving: bool = False) -> bool:
        """Start the worker's next incarnation, if that may still be done."""
        if self._restarts >= self._supervision.max_restarts or self._owner.stopped:
            return False
        self._restarts += 1
        self._supervision.on_restart(what)
        self._dismiss(seat, is_leaving)
        self.start(seat.index, seat.incarnation + 1)
        return True

    def _dismiss(self, seat: ChildSeat, is_leaving: bool = False) -> None:
        """Part with a worker; one that closes its environments is given the time."""
        self._heartbeats.leave(seat.index)
        self._owner.leave(seat.index)
        self._forget(seat)
        if is_leaving:
            seat.let_go()
            self._leaving.append((seat, time.monotonic() + self._supervision.close_timeout))
            return
        seat.kill()
        seat.close()
