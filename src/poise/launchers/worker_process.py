"""The parent's end of a worker's process: how it is started, spoken with and let go."""

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
"""How long what the environments have started may take to end, once they have been closed."""
EXIT_SECONDS = 5.0
"""How long the exit code of a process is waited for that has closed its pipe."""
_LOOK = 0.05
"""Seconds between two looks at processes that are to end."""


def _kill_group(leader: int) -> None:
    """Kill a worker's process, and all processes that its environments have started."""
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
    """Wait until processes have ended, but not longer; returns those that have not."""
    end = time.monotonic() + seconds
    while True:
        # A process that an environment forked may hold a sentinel open: they are asked, too.
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


class WorkerProcess:
    """The parent's end of one worker's process: the process, its pipe and its mailbox."""

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
        """What it has said, and nobody has heard."""
        self.is_waiting = False
        """Whether it has said something that it waits for the server's answer to."""
        self.can_play = False
        """Whether it is able to play in evaluations, now or when its cycle is over."""
        self.has_played = False
        self.lanes = 1
        """Copies that it plays in."""
        self.episodes: dict[int, int] = {}
        """Seeds of the episodes that it is to play, by their numbers."""
        self.fault: DeadlineError | None = None
        """Why it was killed."""
        self.mailbox = Mailbox(context, shape)
        ours, theirs = map(FramedPipe, context.Pipe())
        self.pipe = ours
        self.process: SpawnProcess = context.Process(
            target=run_child,
            args=(payload, index, generation, patience, self.mailbox, shared_policy, theirs),
            name=f"poise-worker-{index}",
            # Daemons may not have children, and an environment may need some.
            daemon=False,
        )
        try:
            with _without_false_main_file():
                self.process.start()
        finally:
            # With only the child holding the other end, its death is the end of file.
            theirs.close()
        # Whatever happens: the interpreter's exit waits for no worker.
        pid = self.process.pid
        self._at_exit = Finalize(None, _kill_at_exit, (pid,), exitpriority=100)

    def listen(self) -> None:
        """Keep what it has said. Waits only if it has said nothing.

        Raises:
            EOFError, OSError: it has ended, or its pipe is broken.
        """
        for message in self.pipe.receive():
            self.keep(message)

    def keep(self, message: bytes) -> None:
        """Keep one thing that it has said."""
        self.inbox.append(message)
        kind = message[:1]
        if kind in (READY, UPDATE):
            self.is_waiting = self.can_play = True
        elif kind == ERROR:
            self.can_play = False

    def hear_last_word(self, message: bytes) -> None:
        """Note where it says that it hangs."""
        self.last_word = message[1:].decode(errors="replace")

    def has_mail(self) -> bool:
        """Whether it has said something that nobody has heard, or has ended."""
        return bool(self.inbox) or self.pipe.has_mail()

    def condemn(self, error: DeadlineError) -> None:
        """Kill it for what it has done; the launcher says so when it sees that it is dead."""
        self.fault, self.can_play = error, False
        self.kill()

    def initial_state(self) -> Any:
        """The state of the worker before its first cycle, None if it is not available.

        Raises:
            TornMessageError: it is not whole.
        """
        return self.mailbox.take_initial_state(self._state_like)

    def worker_update(self, sequence: int) -> tuple[WorkerUpdate, Any]:
        """What the worker has announced, and its state after it, None if that is not available.

        Raises:
            TornMessageError: it is not whole, or no answer to what was sent last.
        """
        if sequence != self.sequence:
            raise TornMessageError(f"answer to {sequence} instead of {self.sequence}")
        worker_update, state = self.mailbox.take_update(sequence, self._state_like)
        worker_update, self.batch = worker_update._replace(evidence=self.batch), None
        return worker_update, state

    def send(self, snapshot: Snapshot, state: Any = None) -> None:
        """Hand the worker a snapshot, and the state to go on from if not from its own.

        Raises:
            OSError: it has died.
        """
        self.sequence += 1
        self.is_waiting = False
        self.mailbox.put_snapshot(snapshot, self.sequence, state)
        self.pipe.send(SIGNAL.pack(b"S", self.sequence))

    def let_go(self) -> None:
        """Tell the process to close its environments and leave, by the end of the pipe."""
        self.pipe.close()

    def exit_code(self) -> int | None:
        """How its process has ended; None if it has not.

        It is waited for a little: sentinel and pipe tell the end a moment before the code is there.
        """
        wait_for_end([self], EXIT_SECONDS)
        return self.process.exitcode

    def urge(self) -> None:
        """Let it give up the cycle under way."""
        self.process.terminate()

    def kill(self) -> None:
        """Kill the process and what its environments have started."""
        self.process.kill()
        if self.process.pid is not None:
            _kill_group(self.process.pid)

    def close(self) -> None:
        """Leave nothing of the process: at once if it has not ended, otherwise with patience."""
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
