"""A worker's own process: how it is started, what it does there, and what it says.

A message is one byte that says what it is, and what belongs to it; arrays travel in the mailbox.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

import cloudpickle

from poise.launchers.failure import describe_failure
from poise.launchers.mailbox import Mailbox, MailboxShape, TornMessageError, pack_batch
from poise.learning.worker import Worker
from poise.trajectory import Contribution, Snapshot

__all__ = [
    "BATCH",
    "COMPILED",
    "CONTRIBUTION",
    "ERROR",
    "READY",
    "SIGNAL",
    "ChildSeat",
    "WorkerFactory",
]

WorkerFactory = Callable[[int, int], Worker]
"""(index, incarnation) -> a worker, ready to cycle; called in the worker's process."""

COMPILED, READY, CONTRIBUTION, ERROR, BATCH = b"X", b"R", b"C", b"E", b"B"
SIGNAL = struct.Struct("<cQ")


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


class ChildSeat:
    """The parent's end of one worker's process: the process, its pipe and its mailbox."""

    def __init__(self, index: int, incarnation: int, payload: bytes, shape: MailboxShape) -> None:
        self._state_like = shape.state
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

    def initial_state(self) -> Any:
        """The state of the worker before its first cycle, None if it cannot be had.

        Raises:
            TornMessageError: it is not whole.
        """
        return self.mailbox.take_initial_state(self._state_like)

    def contribution(self, sequence: int) -> tuple[Contribution, Any]:
        """What the worker has announced, and its state after it, None if that cannot be had.

        Raises:
            TornMessageError: it is not whole, or no answer to what was sent last.
        """
        if sequence != self.sequence:
            raise TornMessageError(f"answer to {sequence} instead of {self.sequence}")
        contribution, state = self.mailbox.take_contribution(sequence, self._state_like)
        contribution, self.batch = contribution._replace(trajectory=self.batch), None
        return contribution, state

    def send(self, snapshot: Snapshot, state: Any = None) -> None:
        """Hand the worker a snapshot, and the state to go on from if not from its own.

        Raises:
            OSError: it has died.
        """
        self.sequence += 1
        self.mailbox.put_snapshot(snapshot, self.sequence, state)
        self.pipe.send_bytes(SIGNAL.pack(b"S", self.sequence))

    def close(self, patience: float) -> None:
        """Let the process go, and after so many seconds kill it."""
        self.pipe.close()
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


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
        pipe.send_bytes(SIGNAL.pack(COMPILED, worker.seed % 2**64))
        state = worker.initial_state()
        whole = worker.has_whole_state
        mailbox.put_initial_state(state if whole else ())
        pipe.send_bytes(READY)
        while True:
            try:
                _, sequence = SIGNAL.unpack(pipe.recv_bytes())
            except (EOFError, ConnectionResetError):
                return
            snapshot, earlier = mailbox.take_snapshot(sequence, state if whole else ())
            state = state if earlier is None else earlier
            contribution, state = worker.cycle(snapshot, state)
            if contribution.trajectory is not None:
                # Too large and too rare for the mailbox: the batch behind a broken gradient.
                pipe.send_bytes(BATCH + pack_batch(contribution.trajectory))
            mailbox.put_contribution(contribution, sequence, state if whole else ())
            pipe.send_bytes(SIGNAL.pack(CONTRIBUTION, sequence))
    except BaseException as error:
        # Whatever it is, this process ends by it, and the run must know.
        try:
            pipe.send_bytes(ERROR + json.dumps(describe_failure(error)).encode())
        except OSError:
            # The parent has left: nobody is there to be told.
            return
