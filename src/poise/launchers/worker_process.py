"""The parent's side of a worker's process: starting it, exchanging messages, and ending it."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from multiprocessing.util import Finalize
from typing import Any

from poise.errors import DeadlineError
from poise.launchers.framed_pipe import FramedPipe
from poise.launchers.mailbox import Mailbox, MailboxShape, TornMessageError
from poise.launchers.shared_policy import SharedPolicy
from poise.launchers.worker_main import ERROR, READY, SIGNAL, UPDATE, run_child
from poise.trajectory import Snapshot, WorkerUpdate

__all__ = ["WorkerProcess", "wait_for_end"]

GROUP_SECONDS = 2.0
"""Seconds that processes started by environments may take to end after these are closed."""
EXIT_SECONDS = 5.0
"""Seconds to wait for the exit code of a process that has closed its pipe."""
_LOOK = 0.05
"""Seconds between two checks of processes that should end."""


def _kill_group(leader: int) -> None:
    """Kill a worker's process group: the process, and all those that its environments started."""
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def _kill_at_exit(leader: int) -> None:
    _kill_group(leader)
    with contextlib.suppress(OSError):
        os.kill(leader, signal.SIGKILL)


def _has_group(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except OSError:
        return False
    return True


def wait_for_end(
    worker_processes: "Sequence[WorkerProcess]", seconds: float
) -> "list[WorkerProcess]":
    """Wait for processes to end, but at most this long; return those that have not ended."""
    end = time.monotonic() + seconds
    while True:
        # A process forked by an environment may hold a sentinel open, so also poll `is_alive`.
        left = [
            worker_process
            for worker_process in worker_processes
            if worker_process.process.is_alive()
        ]
        remaining = end - time.monotonic()
        if not left or remaining <= 0:
            return left
        connection.wait(
            [worker_process.process.sentinel for worker_process in left], min(_LOOK, remaining)
        )


@contextlib.contextmanager
def _without_false_main_file() -> Iterator[None]:
    """Hide a ``__main__.__file__`` that is not a file, such as ``<stdin>``: it cannot be imported.

    Functions and classes defined in ``__main__`` are pickled by value.
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


class WorkerProcess:
    """The parent's side of one worker's process: the process, its pipe and its mailbox."""

    def __init__(
        self,
        index: int,
        generation: int,
        payload: bytes,
        shape: MailboxShape,
        patience: float,
        shared_policy: SharedPolicy,
    ) -> None:
        self._state_like = shape.state
        context = multiprocessing.get_context("spawn")
        self.index = index
        self.generation = generation
        self.has_opened = False
        self.ready = False
        self.sequence = 0
        self.seed = 0
        self.batch: Any = None
        self.last_word = ""
        self.inbox: deque[bytes] = deque()
        """Received messages that have not been processed yet."""
        self.is_waiting = False
        """Whether it is waiting for the server's answer to a message."""
        self.can_play = False
        """Whether it can play in evaluations, now or after its current cycle."""
        self.has_played = False
        self.lanes = 1
        """Number of copies that it plays in."""
        self.episodes: dict[int, int] = {}
        """Seeds of the episodes that it is playing, by their numbers."""
        self.fault: DeadlineError | None = None
        """Why it was killed."""
        self.mailbox = Mailbox(context, shape)
        ours, theirs = map(FramedPipe, context.Pipe())
        self.pipe = ours
        self.process: SpawnProcess = context.Process(
            target=run_child,
            args=(payload, index, generation, patience, self.mailbox, shared_policy, theirs),
            name=f"poise-worker-{index}",
            # Daemons may not have child processes, but an environment may need some.
            daemon=False,
        )
        try:
            with _without_false_main_file():
                self.process.start()
        finally:
            # Only the child holds the other end now, so its death closes the pipe.
            theirs.close()
        # The interpreter's exit must never wait for a worker.
        pid = self.process.pid
        self._at_exit = Finalize(None, _kill_at_exit, (pid,), exitpriority=100)

    def listen(self) -> None:
        """Read its messages into the inbox. Blocks only if nothing has arrived.

        Raises:
            EOFError, OSError: the process has ended, or its pipe is broken.
        """
        for message in self.pipe.receive():
            self.keep(message)

    def keep(self, message: bytes) -> None:
        """Put a message into the inbox."""
        self.inbox.append(message)
        kind = message[:1]
        if kind in (READY, UPDATE):
            self.is_waiting = self.can_play = True
        elif kind == ERROR:
            self.can_play = False

    def hear_last_word(self, message: bytes) -> None:
        """Record the worker's report of where it hangs."""
        self.last_word = message[1:].decode(errors="replace")

    def has_mail(self) -> bool:
        """Whether there is an unprocessed message, or its pipe has ended."""
        return bool(self.inbox) or self.pipe.has_mail()

    def condemn(self, error: DeadlineError) -> None:
        """Kill it because of an error; the launcher reports the error once the process is dead."""
        self.fault, self.can_play = error, False
        self.kill()

    def initial_state(self) -> Any:
        """Return the worker's state before its first cycle; None if it is not available.

        Raises:
            TornMessageError: it is incomplete.
        """
        return self.mailbox.take_initial_state(self._state_like)

    def worker_update(self, sequence: int) -> tuple[WorkerUpdate, Any]:
        """Return the announced update and the worker's state after it (None if not available).

        Raises:
            TornMessageError: it is incomplete, or does not answer the last snapshot.
        """
        if sequence != self.sequence:
            raise TornMessageError(f"answer to {sequence} instead of {self.sequence}")
        worker_update, state = self.mailbox.take_update(sequence, self._state_like)
        worker_update, self.batch = worker_update._replace(evidence=self.batch), None
        return worker_update, state

    def send(self, snapshot: Snapshot, state: Any = None) -> None:
        """Send the worker a snapshot, and optionally a state to continue from.

        Raises:
            OSError: it has died.
        """
        self.sequence += 1
        self.is_waiting = False
        self.mailbox.put_snapshot(snapshot, self.sequence, state)
        self.pipe.send(SIGNAL.pack(b"S", self.sequence))

    def let_go(self) -> None:
        """Tell the process to close its environments and exit, by closing the pipe."""
        self.pipe.close()

    def exit_code(self) -> int | None:
        """Return the exit code of its process; None if it has not ended.

        Waits a little, because sentinel and pipe signal the end before the exit code is known.
        """
        wait_for_end([self], EXIT_SECONDS)
        return self.process.exitcode

    def urge(self) -> None:
        """Make it abort its current cycle."""
        self.process.terminate()

    def kill(self) -> None:
        """Kill the process and all processes that its environments have started."""
        self.process.kill()
        if self.process.pid is not None:
            _kill_group(self.process.pid)

    def close(self) -> None:
        """End the process and its group: kill it if it still runs, else give its children time."""
        self.pipe.close()
        pid = self.process.pid
        if self.process.is_alive():
            self.kill()
        elif pid is not None and self.process.exitcode == 0:
            end = time.monotonic() + GROUP_SECONDS
            while _has_group(pid) and time.monotonic() < end:
                time.sleep(_LOOK)
        if pid is not None:
            _kill_group(pid)
        self.process.join()
        self._at_exit.cancel()
        self.process.close()
