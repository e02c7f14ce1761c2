"""The owner of the parameters: a single-threaded state machine.

The asynchronous discipline of Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3: each
contribution is applied as it comes, its sender is answered with the newest parameters.
Locks, waiting and deadlines belong to the launchers; clocks and files to the runs.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from poise.learning.cut import Cut, Seat
from poise.learning.events import (
    CutTaken,
    EpisodeFinished,
    Evaluated,
    Event,
    Joined,
    Rejected,
    Stopped,
    TrainingSolved,
    Updated,
    Verdict,
)
from poise.learning.journal import Journal, Kind, Record, StopReason
from poise.learning.optimizer import OptimizerState, Update
from poise.learning.tally import Tally
from poise.maths.statistics import Moments, merge_moments, normalization
from poise.trajectory import Contribution, Snapshot

__all__ = ["EvaluationAborted", "Owner", "OwnerSettings"]

EVALUATIONS_PER_DOUBLING = 16
"""At most about so many evaluations while the number of steps doubles."""

_CONCLUDING = (StopReason.MAX_STEPS, StopReason.MAX_EPISODES, StopReason.MAX_SECONDS)


class EvaluationAborted(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a judge to give up an evaluation because the run must stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class OwnerSettings(NamedTuple):
    """What the owner must know of a run's settings; units are environment steps."""

    learning_rate: float
    anneal_steps: int | None
    max_steps: int | None
    max_episodes: int | None
    evaluation_interval: int
    target_return: float | None
    stop_when_solved: bool
    checkpoint_steps: int | None = None
    max_bad_gradients: int = 10


Judge = Callable[[Snapshot], Verdict]
Emit = Callable[[Event], None]


class Owner:
    """Holds the parameters; the only thing that changes them.

    Args:
        parameters: ``[P]`` float32, version 0.
        optimizer_state: as the optimizer initialises it.
        update: (parameters, state, gradient, learning rate) -> (parameters, state).
        settings: schedule, budgets and evaluation.
        judge: evaluates a snapshot; called between two contributions, never by the clock.
        emit: receives every event; must be quick, and must not write to disk.
        journal: receives every record.
        moments: of the observations so far, where they are normalised.
    """

    def __init__(
        self,
        parameters: Any,
        optimizer_state: OptimizerState,
        update: Update,
        settings: OwnerSettings,
        judge: Judge,
        emit: Emit,
        journal: Journal,
        moments: Moments | None = None,
    ) -> None:
        self._parameters = parameters
        self._moments = moments
        self._statistics: Any = () if moments is None else normalization(moments)
        self._optimizer_state = optimizer_state
        self._update = update
        self._settings = settings
        self._judge = judge
        self._emit = emit
        self._journal = journal
        self._evaluation_interval = settings.evaluation_interval
        self._evaluated_at = 0
        self._cut_at = 0
        self._cut_wanted = False
        self._seats: dict[int, Seat] = {}
        self._resumed: set[int] = set()
        self.tally = Tally(settings.target_return)
        self.version = 0
        """Number of updates applied."""
        self.steps = 0
        """Environment steps in accepted contributions."""
        self.bad_gradients = 0
        """Contributions rejected because they were not finite."""
        self.verifications = 0
        """Verifications that came to an end in an evaluation."""
        self.last_worker: int | None = None
        """Who contributed last."""
        self.best: Snapshot | None = None
        """The best candidate so far: verified before unverified, then by selection score."""
        self.best_verdict: Verdict | None = None
        self.stop_reason: StopReason | None = None

    @property
    def stopped(self) -> bool:
        """Whether the run has ended."""
        return self.stop_reason is not None

    def snapshot(self) -> Snapshot:
        """The current version and parameters."""
        return Snapshot(np.int32(self.version), self._parameters, self._statistics)

    def join(self, worker: int, incarnation: int = 0, deposit: Any = None) -> Snapshot:
        """Admit a worker and hand it its first snapshot.

        Args:
            worker: its number.
            incarnation: how often it has been started before.
            deposit: its state before its first cycle, where it can be had.
        """
        snapshot = self.snapshot()
        self._seats[worker] = Seat(incarnation, snapshot, deposit)
        self._record(Kind.JOIN, 0, worker, self.version, 0)
        self._emit(Joined(worker, incarnation, self.version))
        return snapshot

    def leave(self, worker: int) -> None:
        """Let a worker go."""
        if worker in self._seats:
            self._record(Kind.LEAVE, 0, worker, int(self._seats[worker].snapshot.version), 0)
            del self._seats[worker]

    def rejoin(self, worker: int) -> Seat | None:
        """The seat that a worker had when the run was cut; None if it must join anew."""
        if worker not in self._resumed:
            return None
        self._resumed.discard(worker)
        seat = self._seats[worker]
        self._emit(Joined(worker, seat.incarnation, int(seat.snapshot.version)))
        return seat

    def receive(
        self, worker: int, contribution: Contribution, deposit: Any = None
    ) -> dict[int, Snapshot]:
        """Apply a contribution.

        Args:
            worker: who brings it.
            contribution: what was learned from one rollout.
            deposit: the worker's state after it, where it can be had, for checkpoints.

        Returns:
            Snapshots to hand out, by worker; empty once the run has ended, when contributions are
            refused.

        Raises:
            ValueError: the worker has not joined, or acted with another version than it was given.
        """
        if self.stopped:
            return {}
        self._check_protocol(worker, contribution)
        accepted = bool(np.isfinite(contribution.losses).all())
        if accepted:
            self._apply(worker, contribution)
        else:
            self._reject(worker, contribution)
        answer = self.snapshot()
        self._seats[worker] = Seat(self._seats[worker].incarnation, answer, deposit)
        self.last_worker = worker
        if not accepted and self.bad_gradients > self._settings.max_bad_gradients:
            self.stop(StopReason.NOT_FINITE)
        self._evaluate_if_due()
        self._check_budgets()
        if self.stopped:
            return {}
        self._cut_if_due()
        return {worker: answer}

    def stop(self, reason: StopReason) -> None:
        """End the run; contributions that come later are refused. A second call changes nothing.

        A run that has used up a budget ends with an evaluation, if anything was learned since the
        last one.
        """
        if self.stopped:
            return
        self._emit(CutTaken(self.cut()))
        if reason in _CONCLUDING and self.steps > self._evaluated_at:
            self._evaluate()
            if self.stopped:
                return
        self._end(reason)

    def _end(self, reason: StopReason) -> None:
        self.stop_reason = reason
        self._journal.append(Record(Kind.STOP, int(reason), 0, 0, self.version, self.steps))
        self._emit(Stopped(reason, self.steps))

    def want_cut(self) -> None:
        """Ask for a cut after the next contribution; may be called from any thread."""
        self._cut_wanted = True

    def cut(self) -> Cut:
        """Everything that the run has come to: parameters, counters, every worker's seat."""
        return Cut(
            version=self.version,
            steps=self.steps,
            bad_gradients=self.bad_gradients,
            evaluated_at=self._evaluated_at,
            evaluation_interval=self._evaluation_interval,
            verifications=self.verifications,
            last_worker=self.last_worker,
            tally=self.tally.state(),
            parameters=self._parameters,
            optimizer_state=self._optimizer_state,
            moments=self._moments,
            best=self.best,
            best_verdict=self.best_verdict,
            seats=dict(self._seats),
            journal_records=self._journal.length,
            journal_checksum=self._journal.checksum,
        )

    def resume(self, cut: Cut, *, changed: bool = False) -> None:
        """Go on from a cut, before any worker has joined.

        Workers with a deposit `rejoin` and do again what was under way; the others have left.

        Args:
            cut: where to go on.
            changed: the budgets are not those that the cut was taken under.
        """
        self.version, self.steps = cut.version, cut.steps
        self.bad_gradients = cut.bad_gradients
        self._evaluated_at = cut.evaluated_at
        self._evaluation_interval = cut.evaluation_interval
        self._cut_at = cut.steps
        self.verifications = cut.verifications
        self.last_worker = cut.last_worker
        self.tally.restore(cut.tally)
        self._parameters, self._optimizer_state = cut.parameters, cut.optimizer_state
        self._moments = cut.moments
        self._statistics = () if cut.moments is None else normalization(cut.moments)
        self.best, self.best_verdict = cut.best, cut.best_verdict
        self._seats = dict(cut.seats)
        # What was under way when the run was cut comes first, as if it had not been cut.
        self._evaluate_if_due()
        if self.stopped:
            return
        if changed:
            self._journal.append(Record(Kind.RESUME, 0, 0, 0, self.version, self.steps))
        for worker, seat in cut.seats.items():
            if seat.deposit is None:
                self.leave(worker)
            else:
                self._resumed.add(worker)
        self._check_budgets()

    def change(self, settings: OwnerSettings) -> None:
        """Go on under other budgets; a replay does so where the journal says that the run did."""
        self._settings = settings
        self._journal.append(Record(Kind.RESUME, 0, 0, 0, self.version, self.steps))

    def _check_protocol(self, worker: int, contribution: Contribution) -> None:
        if worker not in self._seats:
            raise ValueError(f"worker {worker} contributes without having joined")
        held = int(self._seats[worker].snapshot.version)
        if contribution.version != held:
            raise ValueError(
                f"worker {worker} acted with version {contribution.version}, but was given {held}"
            )

    def _apply(self, worker: int, contribution: Contribution) -> None:
        learning_rate = self._learning_rate()
        self._parameters, self._optimizer_state = self._update(
            self._parameters,
            self._optimizer_state,
            contribution.gradient,
            np.float32(learning_rate),
        )
        if self._moments is not None:
            self._moments = merge_moments(self._moments, contribution.statistics)
            self._statistics = normalization(self._moments)
        staleness = self.version - contribution.version
        self.version += 1
        self.steps += contribution.steps
        self._record(Kind.CONTRIBUTION, 1, worker, contribution.version, self.steps)
        loss, policy, value, entropy, norm = map(float, contribution.losses)
        self._emit(
            Updated(
                worker=worker,
                update=self.version,
                steps=self.steps,
                loss=loss,
                policy_loss=policy,
                value_loss=value,
                entropy=entropy,
                gradient_norm=norm,
                staleness=staleness,
                learning_rate=learning_rate,
            )
        )
        report = contribution.episodes
        for value, length in zip(report.returns.tolist(), report.lengths.tolist(), strict=True):
            solved = self.tally.add(value)
            self._emit(
                EpisodeFinished(
                    worker=worker,
                    episode=self.tally.episodes,
                    steps=self.steps,
                    episode_return=value,
                    length=length,
                    moving_average=self.tally.moving_average or 0.0,
                    loss=loss,
                )
            )
            if solved:
                self._emit(TrainingSolved(self.steps, self.tally.episodes))

    def _reject(self, worker: int, contribution: Contribution) -> None:
        """A gradient that is not finite is never applied."""
        self.bad_gradients += 1
        self._record(Kind.CONTRIBUTION, 0, worker, contribution.version, self.steps)
        self._emit(Rejected(worker, self.version, self.bad_gradients, contribution))

    def _learning_rate(self) -> float:
        settings = self._settings
        if settings.anneal_steps is None:
            return settings.learning_rate
        return settings.learning_rate * max(0.0, 1.0 - self.steps / settings.anneal_steps)

    def _evaluate_if_due(self) -> None:
        if not self.stopped and self.steps - self._evaluated_at >= self._evaluation_interval:
            self._evaluate()

    def _evaluate(self) -> None:
        before, self._evaluated_at = self._evaluated_at, self.steps
        snapshot = self.snapshot()
        try:
            verdict = self._judge(snapshot)
        except EvaluationAborted as aborted:
            self._evaluated_at = before
            self._emit(CutTaken(self.cut()))
            self._end(aborted.reason)
            return
        self.verifications += verdict.verification is not None
        bits = struct.unpack("<Q", struct.pack("<d", verdict.selection.mean))[0]
        self._journal.append(Record(Kind.EVALUATION, int(verdict.solved), 0, 0, self.version, bits))
        is_best = self._is_best(verdict)
        if is_best:
            self.best, self.best_verdict = snapshot, verdict
        # An evaluation must not take more steps than the training in between, late ones are of less
        # use than early ones, and once solved they cannot change what is best.
        solved = self.best_verdict is not None and self.best_verdict.solved
        self._evaluation_interval = max(
            self._settings.evaluation_interval,
            verdict.selection.steps,
            self.steps // (1 if solved else EVALUATIONS_PER_DOUBLING),
        )
        self._emit(Evaluated(self.version, self.steps, verdict, is_best, snapshot))
        if verdict.solved and self._settings.stop_when_solved:
            self.stop(StopReason.SOLVED)

    def _is_best(self, verdict: Verdict) -> bool:
        if self.best_verdict is None:
            return True
        challenger = (verdict.solved, verdict.selection.mean)
        return challenger > (self.best_verdict.solved, self.best_verdict.selection.mean)

    def _check_budgets(self) -> None:
        settings = self._settings
        if settings.max_steps is not None and self.steps >= settings.max_steps:
            self.stop(StopReason.MAX_STEPS)
        elif settings.max_episodes is not None and self.tally.episodes >= settings.max_episodes:
            self.stop(StopReason.MAX_EPISODES)

    def _cut_if_due(self) -> None:
        every = self._settings.checkpoint_steps
        due = every is not None and self.steps // every > self._cut_at // every
        if due or self._cut_wanted:
            self._cut_wanted = False
            self._cut_at = self.steps
            self._emit(CutTaken(self.cut()))

    def _record(self, kind: Kind, detail: int, worker: int, version: int, value: int) -> None:
        incarnation = self._seats[worker].incarnation
        self._journal.append(Record(kind, detail, worker, incarnation, version, value))
