"""Workers in turn, in the calling thread: the deterministic reference.

In the main thread, an environment is made, stepped and closed in that thread, because it may be
bound to it. In any other thread, a hanging worker could not be interrupted, so a separate thread
runs all workers.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from poise.config import SERIAL, LauncherName
from poise.envs.watchdog import Watchdog, can_interrupt
from poise.errors import DeadlineError, PoiseError, WorkerError
from poise.launchers.evaluation_helpers import NO_HELPERS, EvaluationHelpers
from poise.launchers.launcher import Launch, LauncherTraits
from poise.launchers.threads import run_in_one_thread
from poise.launchers.worker_failure import describe_failure, describe_hang
from poise.learning.journal import StopReason
from poise.learning.worker import Releases, Worker
from poise.trajectory import Snapshot

__all__ = ["Serial"]

LEAVE_SECONDS = 10.0
"""Seconds a cycle may continue after the run was asked to stop, before it is abandoned."""

Result = TypeVar("Result")


class Serial:
    """Runs the workers in turn: deterministic for a seed."""

    name: LauncherName = SERIAL
    traits = LauncherTraits(in_turn=True)

    def run(self, launch: Launch) -> None:
        """Run workers until the server stops; see `Launcher`."""
        workers = launch.local_workers()
        if not can_interrupt():
            run_in_one_thread(launch, workers)
            return
        turns = _Turns(launch, workers)
        launch.supervision.offer_helpers(EvaluationHelpers(turns.release))
        try:
            turns.run()
        finally:
            launch.server.stop(StopReason.FAILED)
            launch.supervision.offer_helpers(NO_HELPERS)


class _AbandonedError(DeadlineError):
    """The run was asked to stop, but the current cycle did not end in time."""


class _Turns:
    """Runs the workers one after the other."""

    def __init__(self, launch: Launch, workers: Sequence[Worker]) -> None:
        self._server = launch.server
        self._workers = workers
        self._supervision = launch.supervision
        self._heartbeats = launch.heartbeats
        self._inbox: dict[int, Snapshot] = {}
        self._states: dict[int, Any] = {}
        self._current = workers[0]
        self._pumped = -launch.supervision.interval
        self._asked: float | None = None
        """When a stop was first requested; used by the watchdog's thread only."""

    def run(self) -> None:
        supervision = self._supervision
        with Watchdog(self._look, supervision.interval, supervision.give_up) as watchdog:
            try:
                self._pump()
                for worker in self._workers:
                    self._admit(worker, watchdog)
                while not self._server.stopped:
                    for worker in self._workers:
                        if not self._server.stopped:
                            self._turn(worker, watchdog)
                    if not self._inbox and not self._server.stopped:
                        # No worker has an answer: only the pump can change that.
                        time.sleep(supervision.interval)
                        self._pump()
            except _AbandonedError:
                self._server.stop(supervision.pump() or StopReason.FAILED)

    def release(self) -> None:
        """Close the environments of all workers; they make them again in their next cycle."""
        for worker in self._workers:
            if isinstance(worker, Releases):
                worker.release()

    def _admit(self, worker: Worker, watchdog: Watchdog) -> None:
        """Let a worker begin, or continue from the checkpoint that the run resumes from."""
        if self._server.stopped:
            return
        worker_record = self._server.rejoin(worker.index)
        if worker_record is not None:
            self._states[worker.index] = worker_record.worker_state
            self._inbox[worker.index] = worker_record.snapshot
            return
        state = self._watched(worker, worker.initial_state, watchdog)
        self._states[worker.index] = state
        self._pump()
        if not self._server.stopped:
            worker_state = state if worker.is_checkpointable else None
            answer = self._server.join(worker.index, worker.generation, worker_state)
            self._inbox[worker.index] = answer

    def _turn(self, worker: Worker, watchdog: Watchdog) -> None:
        """Run one cycle of one worker, if the server has answered it."""
        snapshot = self._inbox.pop(worker.index, None)
        if snapshot is None:
            return
        state = self._states[worker.index]
        worker_update, state = self._watched(
            worker, lambda: worker.cycle(snapshot, state), watchdog
        )
        self._states[worker.index] = state
        self._pump()
        if not self._server.stopped:
            worker_state = state if worker.is_checkpointable else None
            self._inbox.update(self._server.receive(worker.index, worker_update, worker_state))

    def _watched(self, worker: Worker, work: Callable[[], Result], watchdog: Watchdog) -> Result:
        """Run a worker's function while signs of life are expected from it."""
        self._current = worker
        self._heartbeats.beat(worker.index)
        try:
            return watchdog.run(work)
        except DeadlineError:
            raise
        except BaseException as error:
            reason = self._supervision.pump()
            if reason is not None:
                # Whatever ended the run may have ended the worker, too.
                self._server.stop(reason)
                if isinstance(error, KeyboardInterrupt):
                    raise
            raise WorkerError(
                worker.index,
                self._supervision.environment,
                worker.seed,
                *describe_failure(error),
            ) from None
        finally:
            self._heartbeats.leave(worker.index)

    def _pump(self) -> None:
        now = time.monotonic()
        if now - self._pumped < self._supervision.interval:
            return
        self._pumped = now
        reason = self._supervision.pump()
        if reason is not None:
            self._server.stop(reason)

    def _look(self) -> PoiseError | None:
        """Return what is wrong with the current cycle; called in the watchdog's thread."""
        supervision, worker = self._supervision, self._current
        if supervision.is_stopping():
            now = time.monotonic()
            self._asked = self._asked or now
            if now - self._asked > LEAVE_SECONDS:
                return _AbandonedError("the current cycle was abandoned")
        if worker.index not in self._heartbeats.overdue(supervision.worker_timeout):
            return None
        where = describe_hang(worker.describe_activity(), threading.main_thread().ident)
        return supervision.hung(worker.index, where)
