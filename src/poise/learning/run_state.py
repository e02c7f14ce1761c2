"""The state of a run between two updates: what a checkpoint holds.

Nothing pauses for it: arrays are never changed in place, so a state is a handful of references. A
worker's record is the snapshot that it was given last and the state that it left with its last
update; what it was doing since then is done again, to the same result.
"""

from typing import Any, NamedTuple

from poise.learning.best_policy import BestPolicyState
from poise.learning.episode_statistics import EpisodeStatisticsState
from poise.maths.statistics import Moments
from poise.trajectory import Snapshot

__all__ = ["RunState", "WorkerRecord"]


class WorkerRecord(NamedTuple):
    """A worker as the server knows it.

    Attributes:
        generation: how often it has been started before.
        snapshot: what it was given last.
        worker_state: its state when it was given that; None if its state is not available.
    """

    generation: int
    snapshot: Snapshot
    worker_state: Any


class RunState(NamedTuple):
    """Everything that a run has come to.

    Attributes:
        version: updates applied.
        steps: environment steps in accepted updates.
        bad_gradients: updates rejected.
        last_worker: who contributed last.
        episode_statistics: of the training episodes.
        parameters: ``[P]`` float32.
        optimizer_state: of the shared optimizer.
        moments: of the observations, None where they are not normalised.
        target_parameters: of the target network; ``()`` without one.
        best_policy: what the evaluations have come to.
        worker_records: of the workers that are there.
        generations: the latest of every worker that ever joined.
        lost: workers that are not started again.
        journal_records: records in the journal.
        journal_checksum: checksum of the last of them.
    """

    version: int
    steps: int
    bad_gradients: int
    last_worker: int | None
    episode_statistics: EpisodeStatisticsState
    parameters: Any
    optimizer_state: Any
    moments: Moments | None
    target_parameters: Any
    best_policy: BestPolicyState
    worker_records: dict[int, WorkerRecord]
    generations: dict[int, int]
    lost: tuple[int, ...]
    journal_records: int
    journal_checksum: int
