"""The owner of the parameters: a single-threaded state machine.

The asynchronous discipline of Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3: each
contribution is applied as it comes, its sender is answered with the newest parameters.
Locks, waiting and deadlines belong to the launchers; clocks and files to the runs.
"""

import collections
import dataclasses
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from poise.learning.events import (
    EpisodeFinished,
    Evaluated,
    Event,
    Joined,
    Stopped,
    TrainingSolved,
    Updated,
    Verdict,
)
from poise.learning.journal import Journal, Kind, Record, StopReason
from poise.learning.optimizer import OptimizerState, Update
from poise.maths.statistics import Moments, merge_moments, normalization
from poise.trajectory import Contribution, EpisodeReport, Snapshot

__all__ = ["EvaluationAborted", "Owner", "OwnerSettings"]

MEAN_WINDOW = 100
"""The tutorial's statistic: the mean over 100 consecutive training episodes."""
MOVING_AVERAGE_DECAY = 0.99
"""The tutorial's moving average: 0.99 old + 0.01 new."""


_CONCLUDING = (StopReason.MAX_STEPS, StopReason.MAX_EPISODES, StopReason.MAX_SECONDS)


class EvaluationAborted(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a judge to give up an evaluation because the run must stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class OwnerSettings(NamedTuple):
    """What the owner must know of a run's settings; units are environment steps."""

    learning_rate: float
    anneal: bool
    max_steps: int | None
    max_episodes: int | None
    evaluation_interval: int
    target_return: float | None
    stop_when_solved: bool


Judge = Callable[[Snapshot], Verdict]
Emit = Callable[[Event], None]


@dataclasses.dataclass
class _Counters:
    version: int = 0
    steps: int = 0
    episodes: int = 0
    evaluated_at: int = 0
    moving_average: float | None = None
    training_solved: bool = False


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
        self._counters = _Counters()
        self._evaluation_interval = settings.evaluation_interval
        self._held: dict[int, tuple[int, int]] = {}
        self._recent: collections.deque[float] = collections.deque(maxlen=MEAN_WINDOW)
        self.best: Snapshot | None = None
        """The best candidate so far: verified before unverified, then by selection score."""
        self.best_verdict: Verdict | None = None
        self.stop_reason: StopReason | None = None

    @property
    def steps(self) -> int:
        """Environment steps in accepted contributions."""
        return self._counters.steps

    @property
    def episodes(self) -> int:
        """Finished training episodes."""
        return self._counters.episodes

    @property
    def version(self) -> int:
        """Number of updates applied."""
        return self._counters.version

    @property
    def training_mean(self) -> float | None:
        """Mean return of the last 100 training episodes (of fewer, if there were fewer)."""
        return float(np.mean(self._recent)) if self._recent else None

    @property
    def stopped(self) -> bool:
        """Whether the run has ended."""
        return self.stop_reason is not None

    def snapshot(self) -> Snapshot:
        """The current version and parameters."""
        return Snapshot(np.int32(self._counters.version), self._parameters, self._statistics)

    def join(self, worker: int, incarnation: int = 0) -> Snapshot:
        """Admit a worker and hand it its first snapshot."""
        version = self._counters.version
        self._held[worker] = (incarnation, version)
        self._record(Kind.JOIN, 0, worker, version, 0)
        self._emit(Joined(worker, incarnation, version))
        return self.snapshot()

    def leave(self, worker: int) -> None:
        """Let a worker go."""
        if worker in self._held:
            self._record(Kind.LEAVE, 0, worker, self._held[worker][1], 0)
            del self._held[worker]

    def receive(self, worker: int, contribution: Contribution) -> dict[int, Snapshot]:
        """Apply a contribution.

        Returns:
            Snapshots to hand out, by worker; empty once the run has ended, when contributions are
            refused.

        Raises:
            ValueError: the worker has not joined, or acted with another version than it was given.
        """
        if self.stopped:
            return {}
        self._check_protocol(worker, contribution)
        counters = self._counters
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
        staleness = counters.version - contribution.version
        counters.version += 1
        counters.steps += contribution.steps
        self._record(Kind.CONTRIBUTION, 1, worker, contribution.version, counters.steps)
        loss, policy, value, entropy, norm = map(float, contribution.losses)
        self._emit(
            Updated(
                worker=worker,
                update=counters.version,
                steps=counters.steps,
                loss=loss,
                policy_loss=policy,
                value_loss=value,
                entropy=entropy,
                gradient_norm=norm,
                staleness=staleness,
                learning_rate=learning_rate,
            )
        )
        self._count_episodes(worker, contribution.episodes, loss)
        if counters.steps - counters.evaluated_at >= self._evaluation_interval:
            self._evaluate()
        self._check_budgets()
        if self.stopped:
            return {}
        self._held[worker] = (self._held[worker][0], counters.version)
        return {worker: self.snapshot()}

    def stop(self, reason: StopReason) -> None:
        """End the run; contributions that come later are refused. A second call changes nothing.

        A run that has used up a budget ends with an evaluation, if anything was learned since the
        last one.
        """
        if self.stopped:
            return
        if reason in _CONCLUDING and self._counters.steps > self._counters.evaluated_at:
            self._evaluate()
            if self.stopped:
                return
        self.stop_reason = reason
        self._journal.append(
            Record(Kind.STOP, int(reason), 0, 0, self._counters.version, self._counters.steps)
        )
        self._emit(Stopped(reason, self._counters.steps))

    def _check_protocol(self, worker: int, contribution: Contribution) -> None:
        if worker not in self._held:
            raise ValueError(f"worker {worker} contributes without having joined")
        held = self._held[worker][1]
        if contribution.version != held:
            raise ValueError(
                f"worker {worker} acted with version {contribution.version}, but was given {held}"
            )

    def _learning_rate(self) -> float:
        settings = self._settings
        if not settings.anneal or settings.max_steps is None:
            return settings.learning_rate
        return settings.learning_rate * max(0.0, 1.0 - self._counters.steps / settings.max_steps)

    def _count_episodes(self, worker: int, report: EpisodeReport, loss: float) -> None:
        counters = self._counters
        for value, length in zip(report.returns.tolist(), report.lengths.tolist(), strict=True):
            counters.episodes += 1
            average = counters.moving_average
            counters.moving_average = (
                value
                if average is None
                else MOVING_AVERAGE_DECAY * average + (1 - MOVING_AVERAGE_DECAY) * value
            )
            self._recent.append(value)
            mean = sum(self._recent) / len(self._recent)
            self._emit(
                EpisodeFinished(
                    worker=worker,
                    episode=counters.episodes,
                    steps=counters.steps,
                    episode_return=value,
                    length=length,
                    moving_average=counters.moving_average,
                    mean_100=mean,
                    loss=loss,
                )
            )
            target = self._settings.target_return
            if (
                not counters.training_solved
                and target is not None
                and len(self._recent) == MEAN_WINDOW
                and mean >= target
            ):
                counters.training_solved = True
                self._emit(TrainingSolved(counters.steps, counters.episodes))

    def _evaluate(self) -> None:
        counters = self._counters
        counters.evaluated_at = counters.steps
        snapshot = self.snapshot()
        try:
            verdict = self._judge(snapshot)
        except EvaluationAborted as aborted:
            self.stop(aborted.reason)
            return
        bits = struct.unpack("<Q", struct.pack("<d", verdict.selection.mean))[0]
        self._journal.append(
            Record(Kind.EVALUATION, int(verdict.solved), 0, 0, counters.version, bits)
        )
        # Long episodes: an evaluation must not take more steps than the training in between.
        self._evaluation_interval = max(
            self._settings.evaluation_interval, verdict.selection.steps
        )
        is_best = self._is_best(verdict)
        if is_best:
            self.best, self.best_verdict = snapshot, verdict
        self._emit(Evaluated(counters.version, counters.steps, verdict, is_best))
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
        elif settings.max_episodes is not None and self.episodes >= settings.max_episodes:
            self.stop(StopReason.MAX_EPISODES)

    def _record(self, kind: Kind, detail: int, worker: int, version: int, value: int) -> None:
        incarnation = self._held[worker][0]
        self._journal.append(Record(kind, detail, worker, incarnation, version, value))
