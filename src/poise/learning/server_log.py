"""The server's log: writes what the server does to the journal and emits it as events.

Records and events have the same order. The records determine a replay; the events are for
observers.
"""

import struct
from collections.abc import Callable

import numpy as np

from poise.learning.episode_statistics import EpisodeStatistics
from poise.learning.evaluation_result import EvaluationResult
from poise.learning.events import (
    CheckpointReady,
    EpisodeFinished,
    Evaluated,
    Event,
    Joined,
    Rejected,
    Stopped,
    TrainingSolved,
    Updated,
)
from poise.learning.journal import Journal, Record, RecordKind, StopReason, UpdateDetail
from poise.learning.run_state import RunState, WorkerRecord
from poise.trajectory import Snapshot, WorkerUpdate

__all__ = ["Emit", "ServerLog"]

Emit = Callable[[Event], None]


class ServerLog:
    """Logs what the server does. Each method logs one kind of event.

    Args:
        journal: receives every record.
        emit: receives every event; must be fast and must not write to disk.
        metrics: names of the logged metrics; the first is the loss.
    """

    def __init__(self, journal: Journal, emit: Emit, metrics: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._journal = journal
        self._emit = emit

    @property
    def records(self) -> int:
        """Number of records so far."""
        return self._journal.length

    @property
    def checksum(self) -> int:
        """Checksum of the last record."""
        return self._journal.checksum

    def joined(self, worker: int, worker_record: WorkerRecord) -> None:
        """Log that a worker joined."""
        version = int(worker_record.snapshot.version)
        self._record(RecordKind.JOIN, 0, worker, worker_record.generation, version, 0)
        self._emit(Joined(worker, worker_record.generation, version))

    def rejoined(self, worker: int, worker_record: WorkerRecord) -> None:
        """Emit that a worker continues after a resume; the journal already has its JOIN record."""
        self._emit(Joined(worker, worker_record.generation, int(worker_record.snapshot.version)))

    def left(self, worker: int, generation: int, version: int, permanently: bool) -> None:
        """Log that a worker left, to be restarted or for good."""
        self._record(RecordKind.LEAVE, int(permanently), worker, generation, version, 0)

    def waits(self, worker: int, generation: int, worker_update: WorkerUpdate, steps: int) -> None:
        """Log that an update waits for its batch to be complete."""
        self._received(UpdateDetail.WAITS, worker, generation, worker_update, steps)

    def changed(self, version: int, steps: int) -> None:
        """Log that a batch was learned from and the parameters have changed."""
        self._record(RecordKind.CHANGE, 0, 0, 0, version, steps)

    def applied(
        self, worker: int, generation: int, worker_update: WorkerUpdate, steps: int
    ) -> None:
        """Log that an update was applied on arrival."""
        self._received(UpdateDetail.APPLIED, worker, generation, worker_update, steps)

    def counted(
        self,
        worker: int,
        worker_update: WorkerUpdate,
        metrics: np.ndarray,
        update: int,
        steps: int,
        learning_rate: float,
        episode_statistics: EpisodeStatistics,
    ) -> None:
        """Emit an applied update and its finished episodes, and count the episodes.

        Args:
            worker: number of the worker that sent it.
            worker_update: the applied update.
            metrics: ``[K]``, the update's metrics.
            update: version of the parameters after the update.
            steps: environment steps so far.
            learning_rate: learning rate of the update.
            episode_statistics: counts the episodes.
        """
        named = dict(zip(self._metrics, metrics.tolist(), strict=True))
        self._emit(
            Updated(
                worker=worker,
                update=update,
                steps=steps,
                metrics=named,
                staleness=update - 1 - worker_update.version,
                learning_rate=learning_rate,
            )
        )
        report = worker_update.episodes
        for episode_return, length in zip(
            report.returns.tolist(), report.lengths.tolist(), strict=True
        ):
            solved = episode_statistics.add(episode_return, length)
            self._emit(
                EpisodeFinished(
                    worker=worker,
                    episode=episode_statistics.episodes,
                    steps=steps,
                    episode_return=episode_return,
                    length=length,
                    moving_average=episode_statistics.moving_average or 0.0,
                    loss=named[self._metrics[0]],
                )
            )
            if solved:
                self._emit(TrainingSolved(steps, episode_statistics.episodes))

    def rejected(
        self,
        worker: int,
        generation: int,
        worker_update: WorkerUpdate,
        version: int,
        steps: int,
        bad_gradients: int,
    ) -> None:
        """Log that an update was rejected because it was not finite."""
        self._received(UpdateDetail.REJECTED, worker, generation, worker_update, steps)
        self._emit(Rejected(worker, version, bad_gradients, worker_update))

    def evaluated(
        self, snapshot: Snapshot, version: int, steps: int, result: EvaluationResult, is_best: bool
    ) -> None:
        """Log that a snapshot was evaluated."""
        bits = struct.unpack("<Q", struct.pack("<d", result.selection.mean))[0]
        self._record(RecordKind.EVALUATION, int(result.solved), 0, 0, version, bits)
        self._emit(Evaluated(version, steps, result, is_best, snapshot))

    def resumed(self, version: int, steps: int) -> None:
        """Log that the run continues with other budgets."""
        self._record(RecordKind.RESUME, 0, 0, 0, version, steps)

    def run_state(self, run_state: RunState) -> None:
        """Emit a state that the run can be resumed from."""
        self._emit(CheckpointReady(run_state))

    def stopped(self, reason: StopReason, version: int, steps: int) -> None:
        """Log that the run has ended."""
        self._record(RecordKind.STOP, int(reason), 0, 0, version, steps)
        self._emit(Stopped(reason, steps))

    def _received(
        self,
        detail: UpdateDetail,
        worker: int,
        generation: int,
        worker_update: WorkerUpdate,
        steps: int,
    ) -> None:
        version = worker_update.version
        self._record(RecordKind.UPDATE, int(detail), worker, generation, version, steps)

    def _record(
        self, kind: RecordKind, detail: int, worker: int, generation: int, version: int, value: int
    ) -> None:
        self._journal.append(Record(kind, detail, worker, generation, version, value))
