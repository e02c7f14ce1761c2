"""The parent's end of a worker's process: how it is started, spoken with and let go."""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from typing import Any

from poise.launchers.child import SIGNAL, run_child
from poise.launchers.mailbox import Mailbox, MailboxShape, TornMessageError
from poise.launchers.wire import Wire
from poise.trajectory import Contribution, Snapshot

__all__ = ["ChildSeat"]


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

    def __init__(
        self, index: int, incarnation: int, payload: bytes, shape: MailboxShape, patience: float
    ) -> None:
        self._state_like = shape.state
        context = multiprocessing.get_context("spawn")
        self.index = index
        self.incarnation = incarnation
        self.ready = False
        self.sequence = 0
        self.seed = 0
        self.batch: Any = None
        self.last_word = ""
        self.mailbox = Mailbox(context, shape)
        ours, theirs = map(Wire, context.Pipe())
        self.wire = ours
        self.process: SpawnProcess = context.Process(
            target=run_child,
            args=(payload, index, incarnation, patience, self.mailbox, theirs),
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
        self.wire.send(SIGNAL.pack(b"S", self.sequence))

    def close(self, patience: float) -> None:
        """Let the process go, and after so many seconds kill it."""
        self.wire.close()
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()
