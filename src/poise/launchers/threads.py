"""Workers as threads: they run in parallel while a cycle releases the GIL, as XLA calls do.

The server is protected by one lock.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

from poise.config import THREADS, LauncherName
from poise.errors import WorkerError
from poise.launchers.evaluation_helpers import EvaluationHelpers
from poise.launchers.launcher import Launch, LauncherTraits
from poise.launchers.supervision import EVALUATION
from poise.launchers.worker_failure import Failure, describe_failure, describe_hang
from poise.learning.journal import StopReason
from poise.learning.worker import Opens, Releases, Worker
from poise.trajectory import Snapshot

__all__ = ["Threads", "run_in_one_thread"]

LAST_TRY_SECONDS = 1.0
"""Seconds to wait for the server's lock if a worker hangs, because it may be holding the lock."""
LEAVE_SECONDS = 10.0
"""Seconds a thread may take to end after the run, before it is abandoned."""


class Threads:
    """Runs every worker in its own thread."""

    name: LauncherName = THREADS
    traits = LauncherTraits(several_threads=True)

    def run(self, launch: Launch) -> None:
        """Run workers until the server stops; see `Launcher`."""
        _Team(launch, [[worker] for worker in launch.local_workers()]).run()


def run_in_one_thread(launch: Launch, workers: Sequence[Worker]) -> None:
    """Run these workers in turn, in one separate thread."""
    _Team(launch, [list(workers)]).run()


class _Team:
    """Threads, each of which runs some of the workers in turn."""

    def __init__(self, launch: Launch, shares: list[list[Worker]]) -> None:
        self._server = launch.server
        self._shares = shares
        self._supervision = launch.supervision
        self._heartbeats = launch.heartbeats
        self._lock = threading.Condition()
        self._inbox: dict[int, Snapshot] = {}
        self._failure: WorkerError | None = None
        self._finished = threading.Event()
        self._running = self._opening = len(shares)
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        # Daemons: a thread that hangs in an environment cannot be killed, only abandoned.
        threads = self._threads = [
            threading.Thread(target=self._serve, args=(share,), daemon=True)
            for share in self._shares
        ]
        for thread in threads:
            thread.start()
        self._supervision.offer_helpers(EvaluationHelpers(self._release))
        try:
            self._supervise()
        finally:
            self._stop(StopReason.FAILED, last=True)
            end = time.monotonic() + LEAVE_SECONDS
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
        if self._failure is not None:
            raise self._failure

    def _release(self) -> None:
        """Close the environments of all workers; they make them again in their next cycle."""
        for share in self._shares:
            for worker in share:
                if isinstance(worker, Releases):
                    worker.release()

    def _supervise(self) -> None:
        supervision = self._supervision
        while not self._finished.wait(supervision.interval):
            reason = supervision.pump()
            if reason is not None:
                self._stop(reason)
            hung = self._heartbeats.overdue(supervision.worker_timeout)
            if hung:
                raise supervision.hung(hung[0], self._describe_activity(hung[0]))

    def _describe_activity(self, who: int) -> str:
        """Describe what a hanging worker or evaluation is doing."""
        if who == EVALUATION:
            return self._supervision.evaluating()
        for share, thread in zip(self._shares, self._threads, strict=True):
            for worker in share:
                if worker.index == who:
                    return describe_hang(worker.describe_activity(), thread.ident)
        return ""

    def _stop(self, reason: StopReason, last: bool = False) -> None:
        """Stop the server; if an evaluation holds its lock, ask it through the pump to abort.

        Args:
            reason: the reason to stop.
            last: an exception is being handled, which must not be hidden by one of the pump's.
        """
        failure: BaseException | None = None
        while not self._lock.acquire(timeout=self._supervision.interval):
            try:
                self._supervision.pump()
            except BaseException as error:
                # Still wait for whoever holds the server.
                failure = failure or error
            hung = bool(self._heartbeats.overdue(self._supervision.worker_timeout))
            if hung and not self._lock.acquire(timeout=LAST_TRY_SECONDS):
                return
            if hung:
                break
        try:
            self._server.stop(reason)
            self._lock.notify_all()
        finally:
            self._lock.release()
        if failure is not None and not last:
            raise failure

    def _serve(self, share: list[Worker]) -> None:
        current = share[0]
        try:
            states: dict[int, Any] = {}
            for current in share:
                self._open(current)
            self._wait_for_all_open()
            for current in share:
                self._admit(current, states)
            while not self._server.stopped:
                for current in share:
                    if not self._turn(current, states):
                        break
        except BaseException as error:
            # Any exception ends this thread, and the run must be told. Until then, the worker must
            # not be regarded as hung.
            self._heartbeats.leave(current.index)
            self._fail(current, describe_failure(error))
        finally:
            with self._lock:
                for worker in share:
                    self._heartbeats.leave(worker.index)
                self._running -= 1
                if self._running == 0:
                    self._finished.set()

    def _open(self, worker: Worker) -> None:
        """Make a worker's environments, if it makes them in advance."""
        if isinstance(worker, Opens):
            self._heartbeats.beat(worker.index)
            worker.open()
            self._heartbeats.leave(worker.index)

    def _wait_for_all_open(self) -> None:
        """Wait until every thread has made its environments.

        A constructor may change module state that another environment's reset reads. The supervisor
        watches how long the others take.
        """
        with self._lock:
            self._opening -= 1
            self._lock.notify_all()
            while self._opening and not self._server.stopped:
                self._lock.wait(self._supervision.interval)

    def _admit(self, worker: Worker, states: dict[int, Any]) -> None:
        """Let a worker begin, or continue from the checkpoint that the run resumes from."""
        with self._lock:
            worker_record = self._server.rejoin(worker.index)
        if worker_record is not None:
            states[worker.index] = worker_record.worker_state
            self._inbox[worker.index] = worker_record.snapshot
            return
        self._heartbeats.beat(worker.index)
        states[worker.index] = worker.initial_state()
        self._heartbeats.leave(worker.index)
        worker_state = states[worker.index] if worker.is_checkpointable else None
        with self._lock:
            if self._server.stopped:
                return
            self._inbox[worker.index] = self._server.join(
                worker.index, worker.generation, worker_state
            )

    def _turn(self, worker: Worker, states: dict[int, Any]) -> bool:
        """Run one cycle of one worker; False once the run has ended.

        Signs of life are expected only during the cycle: while the worker waits for the server, an
        evaluation may be running, which is watched instead.
        """
        with self._lock:
            while worker.index not in self._inbox:
                if self._server.stopped:
                    return False
                self._lock.wait(self._supervision.interval)
            snapshot = self._inbox.pop(worker.index)
        self._heartbeats.beat(worker.index)
        worker_update, states[worker.index] = worker.cycle(snapshot, states[worker.index])
        self._heartbeats.leave(worker.index)
        with self._lock:
            worker_state = states[worker.index] if worker.is_checkpointable else None
            answers = self._server.receive(worker.index, worker_update, worker_state)
            self._inbox.update(answers)
            if len(answers) != 1 or self._server.stopped:
                self._lock.notify_all()
            return not self._server.stopped

    def _fail(self, worker: Worker, failure: Failure) -> None:
        with self._lock:
            if self._failure is None and not self._server.stopped:
                self._failure = WorkerError(
                    worker.index, self._supervision.environment, worker.seed, *failure
                )
            self._server.stop(StopReason.FAILED)
            self._lock.notify_all()
