"""The monitor: what the main thread does while workers train.

It writes records, makes checkpoints, watches budgets and signals, and reports restarts and losses
of workers.
"""

import time
from pathlib import Path

from poise.config import TrainConfig
from poise.launchers.restart_policy import RestartPolicy
from poise.launchers.stop_signals import StopSignals
from poise.learning.events import WorkerRestarted
from poise.learning.journal import StopReason
from poise.learning.parameter_server import ParameterServer
from poise.storage.checkpoints.store import Checkpoint, Offsets, write_checkpoint
from poise.training.run_records import RunRecords
from poise.user_warnings import warn_caller

__all__ = ["RunMonitor"]


class RunMonitor:
    """Keeps a run's folder up to date, and decides when to stop.

    Args:
        folder: the run's folder.
        config: its settings.
        records: the run's records.
        signals: signals that stop the run.
        restart_policy: counts the restarts of workers.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        records: RunRecords,
        signals: StopSignals,
        restart_policy: RestartPolicy,
    ) -> None:
        self._folder = folder
        self._config = config
        self._records = records
        self._recorder = records.recorder
        self._dispatcher = records.dispatcher
        self._callbacks = records.callbacks
        self._signals = signals
        self._restart_policy = restart_policy
        self._began: float | None = None
        self._last_checkpoint = time.monotonic()
        self._server: ParameterServer | None = None

    def watch(self, server: ParameterServer | None) -> None:
        """Request the run's state from this server from now on; None: from no server."""
        self._server = server

    def pump(self) -> StopReason | None:
        """Do the main thread's pending work; return a reason to stop, or None.

        Raises:
            OSError: the folder can no longer be written.
            BaseException: the error that a user's callback raised; raised only once.
        """
        self._signals.keep()
        self._dispatcher.pump()
        self._records.show_progress()
        self.checkpoint()
        server = self._server
        if server is None or not server.stopped or self._callbacks.interrupts:
            self._callbacks.raise_failure()
        # Otherwise training is over, and its result is scored before the error is raised.
        if self._signals.reason is not None:
            return self._signals.reason
        if self._callbacks.asks_to_stop:
            return StopReason.CALLBACK
        now = time.monotonic()
        seconds = self._config.checkpoint_seconds
        if seconds is not None and now - self._last_checkpoint >= seconds and server:
            self._last_checkpoint = now
            server.request_state()
        limit = self._config.max_seconds
        if limit is not None and self._recorder.training_began:
            began = self._began = self._began or now
            if now - began >= limit:
                return StopReason.MAX_SECONDS
        return None

    def checkpoint(self) -> None:
        """Make a checkpoint of the latest state, if that has not been done yet."""
        recorder = self._recorder
        if recorder.run_state is None:
            return
        (run_state, metrics_bytes, solved), recorder.run_state = recorder.run_state, None
        offsets = Offsets(
            journal_bytes=recorder.journal_bytes(run_state.journal_records),
            metrics_bytes=metrics_bytes,
            training_seconds=recorder.training_seconds,
            wall_seconds=recorder.wall_seconds,
            restarts=self._restart_policy.restarts,
            solved_at_steps=solved.solved_at_steps,
            training_solved_seconds=solved.training_solved_seconds,
            training_solved_steps=solved.training_solved_steps,
        )
        write_checkpoint(
            self._folder, Checkpoint(run_state, offsets), self._config.keep_checkpoints
        )

    def note_restart(self, worker: int, generation: int, what: str) -> None:
        """Report that a worker is restarted."""
        self._dispatcher.emit(WorkerRestarted(worker, generation, what))
        warn_caller(f"{what}; started again")

    def note_loss(self, what: str) -> None:
        """Warn that the run continues without a worker."""
        warn_caller(
            f"{what}; not started again (--max-restarts): the run continues with the other workers"
        )

    def note_unclosed(self, what: str) -> None:
        """Warn that environments were not closed in time."""
        warn_caller(what)
