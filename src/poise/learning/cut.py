"""A consistent cut through a run: what the owner holds between two contributions.

Nothing pauses for it: arrays are never changed in place, so a cut is a handful of references. A
worker's seat is the snapshot that it was given last and the state that it deposited with its last
contribution; what it was doing since then is done again, to the same result.
"""

from typing import Any, NamedTuple

from poise.learning.candidates import CandidatesState
from poise.learning.tally import TallyState
from poise.maths.statistics import Moments
from poise.trajectory import Snapshot

__all__ = ["Cut", "Seat"]


class Seat(NamedTuple):
    """A worker as the owner knows it.

    Attributes:
        incarnation: how often it has been started before.
        snapshot: what it was given last.
        deposit: its state when it was given that; None if its state cannot be had.
    """

    incarnation: int
    snapshot: Snapshot
    deposit: Any


class Cut(NamedTuple):
    """Everything that a run has come to.

    Attributes:
        version: updates applied.
        steps: environment steps in accepted contributions.
        bad_gradients: contributions rejected.
        last_worker: who contributed last.
        tally: of the training episodes.
        parameters: ``[P]`` float32.
        optimizer_state: of the shared optimizer.
        moments: of the observations, None where they are not normalised.
        candidates: what the evaluations have come to.
        seats: of the workers that are there.
        incarnations: the latest of every worker that ever joined.
        journal_records: records in the journal.
        journal_checksum: checksum of the last of them.
    """

    version: int
    steps: int
    bad_gradients: int
    last_worker: int | None
    tally: TallyState
    parameters: Any
    optimizer_state: Any
    moments: Moments | None
    candidates: CandidatesState
    seats: dict[int, Seat]
    incarnations: dict[int, int]
    journal_records: int
    journal_checksum: int
