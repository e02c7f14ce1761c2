"""The pool: the worker processes of a run, from their start to their end."""

import contextlib
import multiprocessing
import selectors
import time
from multiprocessing import connection
from typing import NamedTuple

from poise.errors import WorkerError
from poise.launchers.mailbox import MailboxShape
from poise.launchers.shared_policy import SharedPolicy
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.worker_main import LAST_WORD, RELEASE, RELEASED, SIGNAL, START_SECONDS
from poise.launchers.worker_process import WorkerProcess, wait_for_end

__all__ = ["ProcessPool", "Signals"]

LEAVE_SECONDS = 5.0
"""Seconds a process may take to finish its cycle, before it is told to abort it."""


class Signals(NamedTuple):
    """Worker processes that have something to report.

    Attributes:
        speaking: their pipes can be read: a message, or the end of the pipe.
        ended: their processes have ended.
    """

    speaking: list[WorkerProcess]
    ended: list[WorkerProcess]


class ProcessPool:
    """Worker processes, at most one for each number.

    Args:
        payload: the pickled factory, which makes a worker in its process.
        shape: shape of the mailboxes.
        supervision: how the run monitors its workers.
        heartbeats: where the workers' signs of life are recorded.
    """

    def __init__(
        self,
        payload: bytes,
        shape: MailboxShape,
        supervision: Supervision,
        heartbeats: Heartbeats,
    ) -> None:
        self._payload = payload
        self._shape = shape
        self._supervision = supervision
        self._heartbeats = heartbeats
        self._selector = selectors.DefaultSelector()
        self._leaving: list[tuple[WorkerProcess, float]] = []
        """Processes that were told to exit, each with its deadline."""
        self.shared_policy = SharedPolicy(multiprocessing.get_context("spawn"), shape)
        self.workers: dict[int, WorkerProcess] = {}
        """Workers that take part in the run, by number."""

    def start(self, index: int, generation: int) -> None:
        """Start a worker's process.

        Raises:
            WorkerError: the system cannot start the process.
        """
        self._heartbeats.beat(index, START_SECONDS)
        patience = self._supervision.worker_timeout
        try:
            worker_process = WorkerProcess(
                index, generation, self._payload, self._shape, patience, self.shared_policy
            )
        except OSError as error:
            cause = f"its process cannot be started: {error.strerror or error}"
            raise WorkerError(index, self._supervision.environment, 0, cause) from error
        self.workers[index] = worker_process
        self._selector.register(worker_process.pipe, selectors.EVENT_READ, (worker_process, True))
        self._selector.register(
            worker_process.process.sentinel, selectors.EVENT_READ, (worker_process, False)
        )

    def has(self, worker_process: WorkerProcess) -> bool:
        """Whether the worker takes part in the run."""
        return self.workers.get(worker_process.index) is worker_process

    def wait(self, seconds: float) -> Signals:
        """Wait until a worker signals, but at most this long."""
        signals = Signals([], [])
        for key, _ in self._selector.select(seconds):
            worker_process, speaks = key.data
            (signals.speaking if speaks else signals.ended).append(worker_process)
        return signals

    def remove(self, worker_process: WorkerProcess) -> None:
        """Remove a worker from the run; messages that it still sends are ignored."""
        self._heartbeats.leave(worker_process.index)
        del self.workers[worker_process.index]
        self._selector.unregister(worker_process.pipe)
        self._selector.unregister(worker_process.process.sentinel)

    def let_go(self, worker_process: WorkerProcess) -> None:
        """Give a removed worker time to close its environments."""
        worker_process.let_go()
        self._leaving.append((worker_process, time.monotonic() + self._supervision.close_timeout))

    def look_after_leaving(self) -> None:
        """Check on the removed workers that are still closing their environments."""
        for worker_process, end in list(self._leaving):
            late = time.monotonic() > end
            if late and worker_process.process.is_alive():
                self._report_unclosed(worker_process)
            if late or not worker_process.process.is_alive():
                self._leaving.remove((worker_process, end))
                worker_process.close()

    def release(self) -> None:
        """Close the environments of all workers; they make them again in their next cycle.

        Raises:
            DeadlineError: a worker does not answer.
        """
        for worker_process in list(self.workers.values()):
            # A worker that has died has nothing open any more.
            with contextlib.suppress(EOFError, OSError):
                worker_process.pipe.send(SIGNAL.pack(RELEASE, 0))
                if not self._released(worker_process):
                    raise self._supervision.hung(worker_process.index, worker_process.last_word)

    def _released(self, worker_process: WorkerProcess) -> bool:
        end = time.monotonic() + self._supervision.worker_timeout
        while time.monotonic() < end:
            if not connection.wait([worker_process.pipe.fileno()], self._supervision.interval):
                continue
            for message in worker_process.pipe.receive():
                if message[:1] == RELEASED:
                    return True
                if message[:1] == LAST_WORD:
                    worker_process.hear_last_word(message)
                # Other messages come from the cycle that it was in when the run was stopped, and
                # are ignored.
        return False

    def close(self) -> None:
        """Let every process close its environments; no process remains afterwards."""
        worker_processes = list(self.workers.values())
        for worker_process in worker_processes:
            self.remove(worker_process)
            worker_process.let_go()
        worker_processes += [worker_process for worker_process, _ in self._leaving]
        self._leaving.clear()
        try:
            for worker_process in wait_for_end(worker_processes, LEAVE_SECONDS):
                worker_process.urge()
            for worker_process in wait_for_end(worker_processes, self._supervision.close_timeout):
                self._report_unclosed(worker_process)
        finally:
            # Also if the waiting is interrupted.
            for worker_process in worker_processes:
                worker_process.close()
            self._selector.close()

    def _report_unclosed(self, worker_process: WorkerProcess) -> None:
        self._supervision.notices.on_unclosed(
            f"worker {worker_process.index} in {self._supervision.environment} has not closed its "
            f"environments within {self._supervision.close_timeout:g} s: it is killed, with all "
            "processes that they started"
        )
