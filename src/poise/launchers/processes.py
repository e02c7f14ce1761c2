"""Workers as processes: for environments that hold the GIL.

Spawned, never forked. The owner lives in the parent, in one thread; each worker has a mailbox in
anonymous shared memory and one pipe for signals, waited on together with the process sentinels.
There is no lock, queue or event that a killed process could hold: a worker may be killed at any
instant, and nobody freezes and nothing is half applied.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

import cloudpickle

from poise.errors import ConfigError, DeadlineError, InputError, WorkerError
from poise.launchers.failure import Failure, describe_failure
from poise.launchers.mailbox import (
    Mailbox,
    MailboxShape,
    TornMessageError,
    pack_batch,
    unpack_batch,
)
from poise.launchers.supervision import Heartbeats, Supervision
from poise.learning.journal import StopReason
from poise.learning.owner import Owner
from poise.learning.worker import Worker
from poise.trajectory import Snapshot

__all__ = ["MISSING_GUARD_EXIT_CODE", "WorkerFactory", "pickle_factory", "run_processes"]

WorkerFactory = Callable[[int, int], Worker]
"""(index, incarnation) -> a worker, ready to cycle; called in the worker's process."""

START_SECONDS = 600.0
"""How long a process may take to import and compile, before its heartbeat is listened to."""
LEAVE_SECONDS = 5.0
"""How long a process may take to leave, before it is killed."""
MISSING_GUARD_EXIT_CODE = 78
"""Exit code of a worker process that began to run the user's script instead of working."""

_COMPILED, _READY, _CONTRIBUTION, _ERROR, _BATCH = b"X", b"R", b"C", b"E", b"B"
_SIGNAL = struct.Struct("<cQ")


def pickle_factory(factory: WorkerFactory, environment: str) -> bytes:
    """Prepare a factory for its way into a spawned process.

    Raises:
        ConfigError: the environment cannot be pickled.
    """
    try:
        return bytes(cloudpickle.dumps(factory))
    except Exception as error:
        raise ConfigError(
            f"the environment {environment} cannot be sent to a worker process: it does not "
            f"pickle ({type(error).__name__}: {error}); use --launcher threads, or make it from "
            "a function at the top of a module"
        ) from error


def run_processes(
    owner: Owner,
    factory: WorkerFactory,
    workers: Sequence[tuple[int, int]],
    shape: MailboxShape,
    supervision: Supervision,
    heartbeats: Heartbeats,
) -> None:
    """Run workers in processes until the owner stops.

    Args:
        owner: lives in this thread.
        factory: makes a worker in its process.
        workers: (index, incarnation) of each.
        shape: of the mailboxes.
        supervision: how the run watches.
        heartbeats: when workers last gave a sign of life.

    Raises:
        WorkerError: a worker raised or died once too often; the others have been stopped.
        DeadlineError: a worker hung once too often.
        InputError: the processes cannot be started.
    """
    payload = pickle_factory(factory, supervision.environment)
    team = _Team(owner, payload, shape, supervision, heartbeats)
    try:
        for index, incarnation in workers:
            team.start(index, incarnation)
        team.run()
    finally:
        owner.stop(StopReason.FAILED)
        team.close()


@contextlib.contextmanager
def _without_false_main_file() -> Iterator[None]:
    """Hide a ``__main__.__file__`` that is no file, such as ``<stdin>``: it cannot be imported.

    What is defined in ``__main__`` travels by value.
    """
    main = sys.modules["__main__"]
    name = getattr(main, "__file__", None)
    if name is None or os.path.exists(name):
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = name


class _Seat:
    """One worker's place: its process, pipe and mailbox."""

    def __init__(self, index: int, incarnation: int, payload: bytes, shape: MailboxShape) -> None:
        context = multiprocessing.get_context("spawn")
        self.index = index
        self.incarnation = incarnation
        self.ready = False
        self.sequence = 0
        self.seed = 0
        self.batch: Any = None
        self.at_end = False
        self.mailbox = Mailbox(context, shape)
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_child,
            args=(payload, index, incarnation, self.mailbox, theirs),
            name=f"poise-worker-{index}",
            daemon=True,
        )
        try:
            with _without_false_main_file():
                self.process.start()
        finally:
            # With only the child holding the other end, its death is the end of file.
            theirs.close()

    def send(self, snapshot: Snapshot) -> None:
        self.sequence += 1
        self.mailbox.put_snapshot(snapshot, self.sequence)
        self.pipe.send_bytes(_SIGNAL.pack(b"S", self.sequence))

    def close(self, patience: float) -> None:
        self.pipe.close()
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


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
        self._seats: dict[int, _Seat] = {}
        self._restarts = 0

    def start(self, index: int, incarnation: int) -> None:
        self._heartbeats.beat(index, START_SECONDS)
        self._seats[index] = _Seat(index, incarnation, self._payload, self._shape)

    def close(self) -> None:
        seats, self._seats = list(self._seats.values()), {}
        for seat in seats:
            seat.pipe.close()
        for seat in seats:
            self._heartbeats.leave(seat.index)
            seat.close(LEAVE_SECONDS)

    def run(self) -> None:
        while not self._owner.stopped:
            pipes: dict[Any, _Seat] = {seat.pipe: seat for seat in self._seats.values()}
            sentinels: dict[Any, _Seat] = {
                seat.process.sentinel: seat for seat in self._seats.values()
            }
            interval = self._supervision.interval
            signalled = connection.wait([*pipes, *sentinels], timeout=interval)
            # Pipes first: a last word counts more than the death behind it.
            for one in signalled:
                if one in pipes:
                    self._listen(pipes[one])
            for one in signalled:
                seat = sentinels.get(one)
                present = seat is not None and self._seats.get(seat.index) is seat
                # What it sent before it died is heard first, in the next round.
                if seat is not None and present and not _has_mail(seat):
                    self._died(seat)
            reason = self._supervision.pump()
            if reason is not None:
                self._owner.stop(reason)
            hung = self._heartbeats.overdue(self._supervision.worker_timeout)
            if hung is not None and not self._owner.stopped:
                self._hangs(self._seats[hung])

    def _listen(self, seat: _Seat) -> None:
        """Take what a worker has sent, and answer."""
        if self._owner.stopped or self._seats.get(seat.index) is not seat:
            return
        try:
            message = seat.pipe.recv_bytes()
        except (EOFError, OSError):
            seat.at_end = True
            self._died(seat)
            return
        kind = message[:1]
        if kind == _ERROR:
            self._failed(seat, Failure(*json.loads(message[1:])))
        elif kind == _COMPILED:
            # From here on, only its environment can keep it waiting.
            self._heartbeats.beat(seat.index)
        elif kind == _BATCH:
            seat.batch = unpack_batch(message[1:])
        elif kind == _READY:
            seat.ready = True
            seat.seed = _SIGNAL.unpack(message)[1]
            self._heartbeats.beat(seat.index)
            self._answer({seat.index: self._owner.join(seat.index, seat.incarnation)})
        else:
            self._receive(seat, _SIGNAL.unpack(message)[1])

    def _receive(self, seat: _Seat, sequence: int) -> None:
        self._heartbeats.beat(seat.index)
        try:
            if sequence != seat.sequence:
                raise TornMessageError(f"answer to {sequence} instead of {seat.sequence}")
            contribution = seat.mailbox.take_contribution(sequence)
        except TornMessageError as error:
            self._lost(seat, f"sent a damaged contribution: {error}")
            return
        contribution = contribution._replace(trajectory=seat.batch)
        seat.batch = None
        answers = self._owner.receive(seat.index, contribution)
        self._heartbeats.beat(seat.index)
        self._answer(answers)

    def _answer(self, answers: dict[int, Snapshot]) -> None:
        for index, snapshot in answers.items():
            seat = self._seats[index]
            try:
                seat.send(snapshot)
            except OSError:
                # It has died since; its sentinel tells the same in a moment.
                continue

    def _died(self, seat: _Seat) -> None:
        # The sentinel fires a moment before the exit code is there.
        seat.process.join(LEAVE_SECONDS)
        code = seat.process.exitcode
        if code == MISSING_GUARD_EXIT_CODE:
            raise InputError(
                "a worker process began to run your script again: put the call of poise.train "
                "under  if __name__ == '__main__':  (worker processes import the script), or "
                "use launcher='threads'"
            )
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        elif code is None:
            how = "closed its pipe"
        else:
            how = f"ended with exit code {code}"
        if not seat.ready:
            how += " before it was ready"
        self._lost(seat, how)

    def _hangs(self, seat: _Seat) -> None:
        timeout = self._supervision.worker_timeout
        how = f"has not answered for {timeout:g} s (--worker-timeout)"
        self._lost(seat, how, DeadlineError)

    def _lost(self, seat: _Seat, how: str, kind: type[Exception] = WorkerError) -> None:
        """A worker is gone through no fault of its environment's: start it again, or end."""
        environment = self._supervision.environment
        what = f"worker {seat.index} in {environment} (environment seed {seat.seed}) {how}"
        if seat.ready and self._restart(seat, what):
            return
        if kind is DeadlineError:
            raise DeadlineError(f"{what}; what was learned so far is saved")
        raise WorkerError(seat.index, environment, seat.seed, f"the worker's process {how}")

    def _failed(self, seat: _Seat, failure: Failure) -> None:
        """A worker raised."""
        what = f"worker {seat.index} (environment seed {seat.seed}) failed: {failure.cause}"
        if self._supervision.restart_on_error and seat.ready and self._restart(seat, what):
            return
        raise WorkerError(seat.index, self._supervision.environment, seat.seed, *failure)

    def _restart(self, seat: _Seat, what: str) -> bool:
        """Start the worker's next incarnation, if that may still be done."""
        if self._restarts >= self._supervision.max_restarts or self._owner.stopped:
            return False
        self._restarts += 1
        self._supervision.on_restart(what)
        self._owner.leave(seat.index)
        del self._seats[seat.index]
        seat.process.kill()
        seat.close(LEAVE_SECONDS)
        self.start(seat.index, seat.incarnation + 1)
        return True


def _has_mail(seat: _Seat) -> bool:
    try:
        return seat.pipe.poll() and not seat.at_end
    except OSError:
        return False


def _leave_with_parent() -> None:
    """End this process with its parent, even while an environment hangs in it."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _child(
    payload: bytes,
    index: int,
    incarnation: int,
    mailbox: Mailbox,
    pipe: "connection.Connection[Any, Any]",
) -> None:
    """A worker's process: leaves at the pipe's end of file, so also when its parent is killed."""
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_with_parent()
    try:
        worker: Worker = cloudpickle.loads(payload)(index, incarnation)
        pipe.send_bytes(_COMPILED)
        state = worker.initial_state()
        pipe.send_bytes(_SIGNAL.pack(_READY, worker.seed % 2**64))
        while True:
            try:
                _, sequence = _SIGNAL.unpack(pipe.recv_bytes())
            except (EOFError, ConnectionResetError):
                return
            snapshot = mailbox.take_snapshot(sequence)
            contribution, state = worker.cycle(snapshot, state)
            if contribution.trajectory is not None:
                # Too large and too rare for the mailbox: the batch behind a broken gradient.
                pipe.send_bytes(_BATCH + pack_batch(contribution.trajectory))
            mailbox.put_contribution(contribution, sequence)
            pipe.send_bytes(_SIGNAL.pack(_CONTRIBUTION, sequence))
    except (Exception, SystemExit) as error:
        try:
            pipe.send_bytes(_ERROR + json.dumps(describe_failure(error)).encode())
        except OSError:
            # The parent has left: nobody is there to be told.
            return
