"""The owner of the parameters: a single-threaded state machine.

The asynchronous discipline of Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3: each
contribution is applied as it comes, its sender is answered with the newest parameters.
Locks, waiting and deadlines belong to the launchers; clocks and files to the runs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from poise.learning.candidates import Candidates
from poise.learning.cut import Cut, Seat
from poise.learning.journal import Journal, StopReason
from poise.learning.ledger import Emit, Ledger
from poise.learning.optimizer import OptimizerState, Update
from poise.learning.owner_settings import OwnerSettings
from poise.learning.tally import Tally
from poise.learning.verdict import Candidate, Verdict
from poise.maths.statistics import Moments, merge_moments, normalization
from poise.trajectory import Contribution, Snapshot

__all__ = ["EvaluationAborted", "Owner", "OwnerSettings", "ProtocolError"]

_CONCLUDING = (
    *(StopReason.MAX_STEPS, StopReason.MAX_EPISODES, StopReason.MAX_SECONDS),
    StopReason.CALLBACK,
)


class EvaluationAborted(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a judge to give up an evaluation because the run must stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class ProtocolError(ValueError):
    """A worker did what it may not do at this point."""


Judge = Callable[[Candidate], Verdict]


class Owner:
    """Holds the parameters; the only thing that changes them.

    Args:
        parameters: ``[P]`` float32, version 0.
        optimizer_state: as the optimizer initialises it.
        update: as `make_optimizer` makes it.
        settings: schedule, budgets and evaluation.
        judge: evaluates a candidate; called between two contributions, never by the clock.
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
        self._ledger = Ledger(journal, emit)
        self._candidates = Candidates(settings.evaluation_interval, settings.evaluation_thrift)
        self._cut_at = 0
        self._cut_wanted = False
        self._seats: dict[int, Seat] = {}
        self._incarnations: dict[int, int] = {}
        self._resumed: set[int] = set()
        self.tally = Tally(settings.target_return)
        self.version = 0
        """Number of updates applied."""
        self.steps = 0
        """Environment steps in accepted contributions."""
        self.bad_gradients = 0
        """Contributions rejected because they were not finite."""
        self.last_worker: int | None = None
        """Who contributed last."""
        self.stop_reason: StopReason | None = None

    @property
    def stopped(self) -> bool:
        """Whether the run has ended."""
        return self.stop_reason is not None

    @property
    def best(self) -> Snapshot | None:
        """The best candidate so far: verified before unverified, then by selection score."""
        return self._candidates.state.best

    @property
    def best_verdict(self) -> Verdict | None:
        """The verdict on the best candidate."""
        return self._candidates.state.verdict

    @property
    def verifications(self) -> int:
        """How often a candidate was verified in an evaluation."""
        return self._candidates.state.verifications

    def candidate(self, snapshot: Snapshot, *, at_the_end: bool = False) -> Candidate:
        """What an evaluation of a snapshot would be asked now.

        Args:
            snapshot: what acts.
            at_the_end: there is nothing left to wait for.
        """
        step_limit = self._settings.step_limit_after(self.tally.longest)
        return self._candidates.candidate(
            snapshot, self.steps, self.tally.mean, step_limit, at_the_end=at_the_end
        )

    def snapshot(self) -> Snapshot:
        """The current version and parameters."""
        return Snapshot(np.int32(self.version), self._parameters, self._statistics)

    def join(self, worker: int, incarnation: int = 0, deposit: Any = None) -> Snapshot:
        """Admit a worker and hand it its first snapshot.

        Args:
            worker: its number.
            incarnation: how often it has been started before.
            deposit: its state before its first cycle, where it can be had.

        Raises:
            ProtocolError: it is there already, or the run has ended.
        """
        if worker in self._seats or self.stopped:
            when = "when the run has ended" if self.stopped else "twice"
            raise ProtocolError(f"worker {worker} joins {when}")
        snapshot = self.snapshot()
        seat = self._seats[worker] = Seat(incarnation, snapshot, deposit)
        self._incarnations[worker] = incarnation
        self._ledger.joined(worker, seat)
        return snapshot

    def leave(self, worker: int) -> None:
        """Let a worker go."""
        self._resumed.discard(worker)
        if worker in self._seats:
            self._ledger.left(worker, self._seats.pop(worker))

    def rejoin(self, worker: int) -> Seat | None:
        """The seat that a worker had when the run was cut; None if it must join anew."""
        if worker not in self._resumed:
            return None
        self._resumed.discard(worker)
        seat = self._seats[worker]
        self._ledger.rejoined(worker, seat)
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
            ProtocolError: the worker has not joined, or acted with another version than it got.
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

        A run that has used up a budget, or that a callback ends, ends with an evaluation, if
        anything was learned since the last one.
        """
        if self.stopped:
            return
        self._ledger.cut(self.cut())
        if reason in _CONCLUDING and self._candidates.unseen(self.steps):
            self._evaluate(at_the_end=True)
            if self.stopped:
                return
        self._end(reason)

    def _end(self, reason: StopReason) -> None:
        self.stop_reason = reason
        self._ledger.stopped(reason, self.version, self.steps)

    def want_cut(self) -> None:
        """Ask for a cut after the next contribution; may be called from any thread."""
        self._cut_wanted = True

    def cut(self) -> Cut:
        """Everything that the run has come to: parameters, counters, every worker's seat."""
        return Cut(
            version=self.version,
            steps=self.steps,
            bad_gradients=self.bad_gradients,
            last_worker=self.last_worker,
            tally=self.tally.state(),
            parameters=self._parameters,
            optimizer_state=self._optimizer_state,
            moments=self._moments,
            candidates=self._candidates.state,
            seats=dict(self._seats),
            incarnations=dict(self._incarnations),
            journal_records=self._ledger.records,
            journal_checksum=self._ledger.checksum,
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
        self._candidates.state = cut.candidates
        self._cut_at = cut.steps
        self.last_worker = cut.last_worker
        self.tally.restore(cut.tally)
        self._parameters, self._optimizer_state = cut.parameters, cut.optimizer_state
        self._moments = cut.moments
        self._statistics = () if cut.moments is None else normalization(cut.moments)
        self._seats, self._incarnations = dict(cut.seats), dict(cut.incarnations)
        # What was under way when the run was cut comes first, as if it had not been cut.
        self._evaluate_if_due()
        if self.stopped:
            return
        if changed:
            self.change(self._settings)
        else:
            self._check_budgets()
        if self.stopped:
            return
        for worker, seat in cut.seats.items():
            if seat.deposit is None:
                self.leave(worker)
            else:
                self._resumed.add(worker)

    def change(self, settings: OwnerSettings) -> None:
        """Go on under other budgets; a replay does so where the journal says that the run did."""
        self._settings = settings
        self._candidates.wait_anew(self.steps)
        self._ledger.resumed(self.version, self.steps)
        self._check_budgets()

    def _check_protocol(self, worker: int, contribution: Contribution) -> None:
        if worker not in self._seats:
            raise ProtocolError(f"worker {worker} contributes without having joined")
        held = int(self._seats[worker].snapshot.version)
        if contribution.version != held:
            raise ProtocolError(
                f"worker {worker} acted with version {contribution.version}, but was given {held}"
            )

    def _apply(self, worker: int, contribution: Contribution) -> None:
        learning_rate = self._settings.learning_rate_after(self.steps)
        self._parameters, self._optimizer_state = self._update(
            self._parameters,
            self._optimizer_state,
            contribution.gradient,
            contribution.losses[-1],
            np.float32(learning_rate),
        )
        if self._moments is not None:
            self._moments = merge_moments(self._moments, contribution.statistics)
            self._statistics = normalization(self._moments)
        self.version += 1
        self.steps += contribution.steps
        self._ledger.applied(
            worker,
            self._seats[worker].incarnation,
            contribution,
            self.version,
            self.steps,
            learning_rate,
            self.tally,
        )

    def _reject(self, worker: int, contribution: Contribution) -> None:
        """A gradient that is not finite is never applied."""
        self.bad_gradients += 1
        incarnation = self._seats[worker].incarnation
        self._ledger.rejected(
            worker, incarnation, contribution, self.version, self.steps, self.bad_gradients
        )

    def _evaluate_if_due(self) -> None:
        least = self._settings.training_before_evaluation(self.steps, self.tally.episodes)
        if not self.stopped and self._candidates.due(self.steps, least):
            self._evaluate()

    def _evaluate(self, *, at_the_end: bool = False) -> None:
        snapshot = self.snapshot()
        candidate = self.candidate(snapshot, at_the_end=at_the_end)
        try:
            verdict = self._judge(candidate)
        except EvaluationAborted as aborted:
            self._ledger.cut(self.cut())
            self._end(aborted.reason)
            return
        is_best = self._candidates.add(candidate, verdict)
        self._ledger.evaluated(snapshot, self.version, self.steps, verdict, is_best)
        if verdict.solved and self._settings.stop_when_solved:
            self.stop(StopReason.SOLVED)
        elif not at_the_end and self._settings.is_flat(self._candidates.flat_for(self.steps)):
            self.stop(StopReason.FLAT)

    def _check_budgets(self) -> None:
        reason = self._settings.used_up(self.steps, self.tally.episodes)
        if reason is not None:
            self.stop(reason)

    def _cut_if_due(self) -> None:
        if self._cut_wanted or self._settings.cut_due(self.steps, self._cut_at):
            self._cut_wanted = False
            self._cut_at = self.steps
            self._ledger.cut(self.cut())
