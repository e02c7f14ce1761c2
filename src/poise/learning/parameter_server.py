"""The parameter server: a single-threaded state machine.

Workers join, send updates and leave; the server answers with the parameters for the next cycle. The
discipline (`poise.learning.discipline`) decides when updates are applied and which workers are
answered. Launchers handle locks, waiting and deadlines; runs handle clocks and files.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from poise.learning.best_policy import BestPolicyTracker
from poise.learning.discipline import DISCIPLINES
from poise.learning.episode_statistics import EpisodeStatistics
from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.learning.journal import Journal, StopReason
from poise.learning.learner import Learned, Learner, ProtocolError
from poise.learning.optimizer import OptimizerState
from poise.learning.pending_batch import PendingBatch, Received
from poise.learning.run_state import RunState, WorkerRecord
from poise.learning.server_log import Emit, ServerLog
from poise.learning.server_settings import ServerSettings
from poise.maths.statistics import Moments, merge_moments, normalization
from poise.trajectory import Snapshot, WorkerUpdate

__all__ = ["EvaluationAborted", "ParameterServer", "ProtocolError", "ServerSettings"]

_CONCLUDING = (
    *(StopReason.MAX_STEPS, StopReason.MAX_EPISODES, StopReason.MAX_SECONDS),
    StopReason.CALLBACK,
)


class EvaluationAborted(Exception):  # noqa: N818 - a signal, not an error
    """Raised by an evaluator to abort an evaluation because the run must stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


Evaluator = Callable[[Candidate], EvaluationResult]


class ParameterServer:
    """Holds the parameters; nothing else changes them.

    Args:
        parameters: ``[P]`` float32, version 0.
        optimizer_state: the optimizer's initial state.
        learner: changes the parameters with the received updates.
        settings: schedule, budgets and evaluation intervals.
        evaluator: evaluates a candidate; called between two updates, at times that depend only on
            step counts.
        emit: receives every event; must be fast and must not write to disk.
        journal: receives every record.
        moments: moments of observations and returns so far; None if nothing is normalised.
    """

    def __init__(
        self,
        parameters: Any,
        optimizer_state: OptimizerState,
        learner: Learner,
        settings: ServerSettings,
        evaluator: Evaluator,
        emit: Emit,
        journal: Journal,
        moments: Moments | None = None,
    ) -> None:
        self._parameters = parameters
        self._target_parameters: Any = () if settings.target_interval is None else parameters
        self._moments = moments
        self._statistics: Any = () if moments is None else normalization(moments)
        self._optimizer_state = optimizer_state
        self._learner = learner
        self._settings = settings
        self._evaluator = evaluator
        self._log = ServerLog(journal, emit, settings.metrics)
        self._best_policy = BestPolicyTracker(
            settings.evaluation_interval,
            settings.training_ratio,
            settings.selection_ratio,
            is_free=settings.evaluates_freely,
            goes_on=settings.verifies_improvements,
            selection_episodes=settings.selection_episodes,
        )
        self._state_at = 0
        self._state_wanted = False
        self._discipline = DISCIPLINES[settings.discipline]
        self._pending = PendingBatch(self._discipline, settings.workers)
        self._before_batch: RunState | None = None
        self._worker_records: dict[int, WorkerRecord] = {}
        self._generations: dict[int, int] = {}
        self._resumed: set[int] = set()
        self.episode_statistics = EpisodeStatistics(settings.target_return)
        self.version = 0
        """Number of changes of the parameters."""
        self.steps = 0
        """Environment steps in accepted updates."""
        self.bad_gradients = 0
        """Number of updates rejected because they were not finite."""
        self.last_worker: int | None = None
        """The worker that sent the last update."""
        self.stop_reason: StopReason | None = None

    @property
    def stopped(self) -> bool:
        """Whether the run has ended."""
        return self.stop_reason is not None

    @property
    def best(self) -> Snapshot | None:
        """The best candidate so far, as in `BestPolicyState`."""
        return self._best_policy.state.best

    @property
    def best_result(self) -> EvaluationResult | None:
        """The best candidate's evaluation."""
        return self._best_policy.state.result

    @property
    def verifications(self) -> int:
        """Number of evaluations that verified a candidate."""
        return self._best_policy.state.verifications

    def candidate(self, snapshot: Snapshot, *, at_the_end: bool = False) -> Candidate:
        """Make a candidate for an evaluation of a snapshot at this point of the run.

        Args:
            snapshot: the parameters to evaluate.
            at_the_end: whether the run is ending, so that a verification need not wait.
        """
        step_limit = self._settings.step_limit_after(self.episode_statistics.longest)
        return self._best_policy.candidate(
            snapshot, self.steps, self.episode_statistics.mean, step_limit, at_the_end=at_the_end
        )

    def snapshot(self) -> Snapshot:
        """Return the current version and parameters."""
        version = np.int32(self.version)
        return Snapshot(version, self._parameters, self._statistics, self._target_parameters)

    def join(self, worker: int, generation: int = 0, worker_state: Any = None) -> Snapshot:
        """Admit a worker and return its first snapshot.

        Args:
            worker: the worker's number.
            generation: how often the worker has been started before.
            worker_state: the worker's state before its first cycle; None if not available.

        Raises:
            ProtocolError: the worker has already joined, or the run has ended.
        """
        if worker in self._worker_records or self.stopped:
            when = "when the run has ended" if self.stopped else "twice"
            raise ProtocolError(f"worker {worker} joins {when}")
        snapshot = self.snapshot()
        worker_record = self._worker_records[worker] = WorkerRecord(
            generation, snapshot, worker_state
        )
        self._generations[worker] = generation
        self._pending.lost.discard(worker)
        self._log.joined(worker, worker_record)
        return snapshot

    def leave(self, worker: int, *, permanently: bool = False) -> dict[int, Snapshot]:
        """Remove a worker. If its update waits for other workers, the update is dropped.

        Args:
            worker: the worker's number.
            permanently: whether the worker will not be started again; the others then stop waiting
                for it.

        Returns:
            Snapshots to send, by worker: others may have waited only for this worker.
        """
        self._resumed.discard(worker)
        self._pending.drop(worker)
        worker_record = self._worker_records.pop(worker, None)
        if permanently:
            self._pending.lost.add(worker)
        if worker_record is not None:
            version = int(worker_record.snapshot.version)
            self._log.left(worker, worker_record.generation, version, permanently)
        elif permanently:
            self._log.left(worker, self._generations.get(worker, 0), self.version, permanently)
        return self._advance([]) if self._pending and not self.stopped else {}

    def rejoin(self, worker: int) -> WorkerRecord | None:
        """Return a worker's record in the state that the run resumed from.

        Returns:
            The record; None if the worker must `join` as a new one.
        """
        if worker not in self._resumed:
            return None
        self._resumed.discard(worker)
        worker_record = self._worker_records[worker]
        self._log.rejoined(worker, worker_record)
        return worker_record

    def receive(
        self, worker: int, worker_update: WorkerUpdate, worker_state: Any = None
    ) -> dict[int, Snapshot]:
        """Receive an update, and learn from it when the discipline decides.

        Args:
            worker: number of the worker that sent it.
            worker_update: the result of one rollout.
            worker_state: the worker's state after it, for checkpoints; None if not available.

        Returns:
            Snapshots to send, by worker; empty while the update waits for others, and after the run
            has ended, when updates are ignored.

        Raises:
            ProtocolError: the worker has not joined, has not been answered yet, or acted with
                a version that it was not sent last.
        """
        if self.stopped:
            return {}
        self._check_protocol(worker, worker_update)
        generation = self._worker_records[worker].generation
        if self._discipline.batches and not self._pending:
            # Checkpoints do not contain incomplete batches: after a resume, this batch is redone.
            self._before_batch = self.run_state()
        is_finite = worker_update.is_finite
        if not is_finite:
            self._reject(worker, worker_update)
        elif self._discipline.batches:
            self._log.waits(worker, generation, worker_update, self.steps)
        self.last_worker = worker
        received = Received(worker, worker_update, worker_state, is_finite)
        if not self._discipline.batches:
            return self._learn_and_answer([received], [received])
        self._pending.add(received)
        return self._advance([received])

    def _advance(self, received: list[Received]) -> dict[int, Snapshot]:
        """Learn from the pending updates if the batch is complete; returns snapshots to send.

        Args:
            received: the updates that have just arrived.
        """
        batch = self._pending.complete()
        if batch is None:
            return self._answer(received) if self._discipline.answers_at_once else {}
        return self._learn_and_answer(
            batch, received if self._discipline.answers_at_once else batch
        )

    def _learn_and_answer(
        self, batch: list[Received], answered: list[Received]
    ) -> dict[int, Snapshot]:
        """Learn from a batch; returns snapshots to send.

        Args:
            batch: the updates to learn from, in the order of summation.
            answered: the updates whose workers wait for an answer.
        """
        finite = [one for one in batch if one.is_finite]
        rejects = not self._learn(finite) or len(finite) < len(batch)
        answers = self._answer(answered)
        # Not earlier: if learning fails, the run's state is still the one before the batch.
        self._pending.clear()
        self._evaluate_if_due()
        self._check_budgets()
        # Last: a replay, which knows only from the journal how many were too many, does the rest.
        if rejects and self.bad_gradients > self._settings.max_bad_gradients:
            self.stop(StopReason.NOT_FINITE)
        if self.stopped:
            return {}
        self._report_state_if_due()
        return answers

    def _answer(self, received: list[Received]) -> dict[int, Snapshot]:
        """Return the current snapshot for each worker that sent one of these updates."""
        answer = self.snapshot()
        for one in received:
            generation = self._worker_records[one.worker].generation
            self._worker_records[one.worker] = WorkerRecord(generation, answer, one.worker_state)
        return dict.fromkeys([one.worker for one in received], answer)

    def stop(self, reason: StopReason) -> None:
        """End the run; later updates are ignored. A second call has no effect.

        If the run has used up a budget or is ended by a callback, it ends with an evaluation,
        unless there were no training steps since the last one.
        """
        if self.stopped:
            return
        self._log.run_state(self.run_state())
        if reason in _CONCLUDING and self._best_policy.unseen(self.steps):
            self._evaluate(at_the_end=True)
            if self.stopped:
                return
        self._end(reason)

    def _end(self, reason: StopReason) -> None:
        self.stop_reason = reason
        self._log.stopped(reason, self.version, self.steps)

    def request_state(self) -> None:
        """Request a `CheckpointReady` event after the next update; callable from any thread."""
        self._state_wanted = True

    def run_state(self) -> RunState:
        """Return the run's state: parameters, counters and every worker's record.

        While a batch is incomplete, this is the state before the batch.
        """
        if self._pending and self._discipline.batches:
            assert self._before_batch is not None, "a batch has begun"
            return self._before_batch
        return RunState(
            version=self.version,
            steps=self.steps,
            bad_gradients=self.bad_gradients,
            last_worker=self.last_worker,
            episode_statistics=self.episode_statistics.state(),
            parameters=self._parameters,
            optimizer_state=self._optimizer_state,
            moments=self._moments,
            target_parameters=self._target_parameters,
            best_policy=self._best_policy.state,
            worker_records=dict(self._worker_records),
            generations=dict(self._generations),
            lost=tuple(sorted(self._pending.lost)),
            journal_records=self._log.records,
            journal_checksum=self._log.checksum,
        )

    def resume(self, run_state: RunState, *, changed: bool = False) -> None:
        """Continue from a state; to be called before any worker has joined.

        Workers whose state is known `rejoin` and repeat the cycle that was interrupted; the others
        are recorded as having left.

        Args:
            run_state: the state to continue from.
            changed: whether the budgets have changed since the state was saved.
        """
        self.version, self.steps = run_state.version, run_state.steps
        self.bad_gradients = run_state.bad_gradients
        self._best_policy.state = run_state.best_policy
        self._state_at = run_state.steps
        self.last_worker = run_state.last_worker
        self.episode_statistics.restore(run_state.episode_statistics)
        self._parameters, self._optimizer_state = run_state.parameters, run_state.optimizer_state
        self._moments = run_state.moments
        self._target_parameters = run_state.target_parameters
        self._statistics = () if run_state.moments is None else normalization(run_state.moments)
        self._worker_records, self._generations = (
            dict(run_state.worker_records),
            dict(run_state.generations),
        )
        self._pending.lost = set(run_state.lost)
        # An evaluation that was interrupted comes first, as if the run had not been interrupted.
        self._evaluate_if_due()
        if self.stopped:
            return
        if changed:
            self.change(self._settings)
        else:
            self._check_budgets()
        if self.stopped:
            return
        for worker, worker_record in run_state.worker_records.items():
            if worker_record.worker_state is None:
                self.leave(worker)
            else:
                self._resumed.add(worker)

    def change(self, settings: ServerSettings) -> None:
        """Continue with other budgets; a replay does so where the journal records it."""
        self._settings = settings
        self._best_policy.wait_anew(self.steps)
        self._log.resumed(self.version, self.steps)
        self._check_budgets()

    def _check_protocol(self, worker: int, worker_update: WorkerUpdate) -> None:
        if worker not in self._worker_records:
            raise ProtocolError(f"worker {worker} contributes without having joined")
        if self._pending.awaits_answer(worker):
            raise ProtocolError(f"worker {worker} contributes twice without an answer")
        held = int(self._worker_records[worker].snapshot.version)
        if worker_update.version != held:
            raise ProtocolError(
                f"worker {worker} acted with version {worker_update.version}, but was given {held}"
            )

    def _reject(self, worker: int, worker_update: WorkerUpdate) -> None:
        """Count and log an update that is not finite."""
        self.bad_gradients += 1
        # The journal's last update must be the last worker's.
        self.last_worker = worker
        # Not from the worker's record: a worker whose update was pending may have left.
        generation = self._generations[worker]
        self._log.rejected(
            worker, generation, worker_update, self.version, self.steps, self.bad_gradients
        )

    def _learn(self, batch: list[Received]) -> bool:
        """Change the parameters with finite updates; returns whether the result was finite, too."""
        if not batch:
            return True
        updates = [(one.worker, one.worker_update) for one in batch]
        learning_rate = self._settings.learning_rate_after(self.steps)
        learned = self._learner(
            self._parameters, self._optimizer_state, updates, learning_rate, self.version
        )
        if learned.metrics is not None and not np.isfinite(learned.metrics).all():
            # Once for the whole batch: it was one attempt to learn.
            self._reject(*updates[-1])
            return False
        self._parameters, self._optimizer_state = learned.parameters, learned.optimizer_state
        self.version += 1
        steps = self.steps
        for worker, worker_update in updates:
            self._count(worker, worker_update, learned, learning_rate)
        every = self._settings.target_interval
        if every is not None and self.steps // every > steps // every:
            self._target_parameters = self._parameters
        if self._moments is not None:
            self._statistics = normalization(self._moments)
        if self._discipline.batches:
            self._log.changed(self.version, self.steps)
        return True

    def _count(
        self, worker: int, worker_update: WorkerUpdate, learned: Learned, learning_rate: float
    ) -> None:
        """Add an update to all counters, and log it."""
        if self._moments is not None:
            self._moments = merge_moments(self._moments, worker_update.statistics)
        self.steps += worker_update.steps
        if not self._discipline.batches:
            generation = self._worker_records[worker].generation
            self._log.applied(worker, generation, worker_update, self.steps)
        metrics = worker_update.metrics if learned.metrics is None else learned.metrics
        self._log.counted(
            worker,
            worker_update,
            metrics,
            self.version,
            self.steps,
            learning_rate,
            self.episode_statistics,
        )

    def _evaluate_if_due(self) -> None:
        least = self._settings.training_before_evaluation(
            self.steps, self.episode_statistics.episodes
        )
        mean, target = self.episode_statistics.mean, self._settings.target_return
        is_promising = mean is not None and target is not None and mean >= target
        if not self.stopped and self._best_policy.due(self.steps, least, is_promising=is_promising):
            self._evaluate()

    def _evaluate(self, *, at_the_end: bool = False) -> None:
        snapshot = self.snapshot()
        candidate = self.candidate(snapshot, at_the_end=at_the_end)
        try:
            result = self._evaluator(candidate)
        except EvaluationAborted as aborted:
            self._log.run_state(self.run_state())
            self._end(aborted.reason)
            return
        is_best = self._best_policy.add(candidate, result)
        self._log.evaluated(snapshot, self.version, self.steps, result, is_best)
        if result.solved and self._settings.stop_when_solved:
            self.stop(StopReason.SOLVED)
        elif not at_the_end and self._settings.is_flat(self._best_policy.flat_for(self.steps)):
            self.stop(StopReason.FLAT)

    def _check_budgets(self) -> None:
        reason = self._settings.used_up(self.steps, self.episode_statistics.episodes)
        if reason is not None:
            self.stop(reason)

    def _report_state_if_due(self) -> None:
        if self._state_wanted or self._settings.state_due(self.steps, self._state_at):
            self._state_wanted = False
            self._state_at = self.steps
            self._log.run_state(self.run_state())
