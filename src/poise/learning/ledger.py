"""The ledger: what the owner did, as records of the journal and as events, in one order.

The records determine a replay; the events are for everybody who wants to see what happens.
"""

import struct
from collections.abc import Callable

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
)
from poise.learning.journal import Journal, Kind, Record, StopReason
from poise.learning.tally import Tally
from poise.learning.verdict import Verdict
from poise.trajectory import Contribution, Snapshot

__all__ = ["Emit", "Ledger"]

Emit = Callable[[Event], None]


class Ledger:
    """Writes down what the owner does.

    Args:
        journal: receives every record.
        emit: receives every event; must be quick, and must not write to disk.
    """

    def __init__(self, journal: Journal, emit: Emit) -> None:
        self._journal = journal
        self._emit = emit

    @property
    def records(self) -> int:
        """Records so far."""
        return self._journal.length

    @property
    def checksum(self) -> int:
        """Checksum of the last record."""
        return self._journal.checksum

    def joined(self, worker: int, seat: Seat) -> None:
        """A worker was admitted."""
        version = int(seat.snapshot.version)
        self._record(Kind.JOIN, 0, worker, seat.incarnation, version, 0)
        self._emit(Joined(worker, seat.incarnation, version))

    def rejoined(self, worker: int, seat: Seat) -> None:
        """A worker goes on where the run was cut; the journal knows it already."""
        self._emit(Joined(worker, seat.incarnation, int(seat.snapshot.version)))

    def left(self, worker: int, seat: Seat) -> None:
        """A worker was let go."""
        version = int(seat.snapshot.version)
        self._record(Kind.LEAVE, 0, worker, seat.incarnation, version, 0)

    def applied(
        self,
        worker: int,
        incarnation: int,
        contribution: Contribution,
        update: int,
        steps: int,
        learning_rate: float,
        tally: Tally,
    ) -> None:
        """A contribution was applied; its finished episodes are counted.

        Args:
            worker: who brought it.
            incarnation: the worker's.
            contribution: what was applied.
            update: which one it was, from 1.
            steps: environment steps so far.
            learning_rate: with which it was applied.
            tally: counts the episodes.
        """
        self._record(Kind.CONTRIBUTION, 1, worker, incarnation, contribution.version, steps)
        loss, policy, value, entropy, norm = map(float, contribution.losses)
        self._emit(
            Updated(
                worker=worker,
                update=update,
                steps=steps,
                loss=loss,
                policy_loss=policy,
                value_loss=value,
                entropy=entropy,
                gradient_norm=norm,
                staleness=update - 1 - contribution.version,
                learning_rate=learning_rate,
            )
        )
        report = contribution.episodes
        for episode_return, length in zip(
            report.returns.tolist(), report.lengths.tolist(), strict=True
        ):
            solved = tally.add(episode_return, length)
            self._emit(
                EpisodeFinished(
                    worker=worker,
                    episode=tally.episodes,
                    steps=steps,
                    episode_return=episode_return,
                    length=length,
                    moving_average=tally.moving_average or 0.0,
                    loss=loss,
                )
            )
            if solved:
                self._emit(TrainingSolved(steps, tally.episodes))

    def rejected(
        self,
        worker: int,
        incarnation: int,
        contribution: Contribution,
        version: int,
        steps: int,
        bad_gradients: int,
    ) -> None:
        """A contribution was not finite."""
        self._record(Kind.CONTRIBUTION, 0, worker, incarnation, contribution.version, steps)
        self._emit(Rejected(worker, version, bad_gradients, contribution))

    def evaluated(
        self, snapshot: Snapshot, version: int, steps: int, verdict: Verdict, is_best: bool
    ) -> None:
        """A snapshot was evaluated."""
        bits = struct.unpack("<Q", struct.pack("<d", verdict.selection.mean))[0]
        self._record(Kind.EVALUATION, int(verdict.solved), 0, 0, version, bits)
        self._emit(Evaluated(version, steps, verdict, is_best, snapshot))

    def resumed(self, version: int, steps: int) -> None:
        """The run goes on under other budgets."""
        self._record(Kind.RESUME, 0, 0, 0, version, steps)

    def cut(self, cut: Cut) -> None:
        """The run can go on from here."""
        self._emit(CutTaken(cut))

    def stopped(self, reason: StopReason, version: int, steps: int) -> None:
        """The run has ended."""
        self._record(Kind.STOP, int(reason), 0, 0, version, steps)
        self._emit(Stopped(reason, steps))

    def _record(
        self, kind: Kind, detail: int, worker: int, incarnation: int, version: int, value: int
    ) -> None:
        self._journal.append(Record(kind, detail, worker, incarnation, version, value))
