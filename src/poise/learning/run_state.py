"""The state of a run between two updates: what a checkpoint holds.

Training need not pause for it: arrays are never changed in place, so a state only holds references.
A worker's record is the last snapshot that it was sent and its state after its last update. After a
resume, the worker repeats the cycle that it began then, with the same result.
"""

from typing import Any, NamedTuple

from poise.learning.best_policy import BestPolicyState
from poise.learning.episode_statistics import EpisodeStatisticsState
from poise.maths.statistics import Moments
from poise.trajectory import Snapshot

__all__ = ["RunState", "WorkerRecord"]


class WorkerRecord(NamedTuple):
    """The server's record of a worker.

    Attributes:
        generation: how often the worker has been started before.
        snapshot: the last snapshot that the worker was sent.
        worker_state: the worker's state at that time; None if it is not available.
    """

    generation: int
    snapshot: Snapshot
    worker_state: Any


class RunState(NamedTuple):
    """The complete state of a run.

    Attributes:
        version: number of changes of the parameters.
        steps: environment steps in accepted updates.
        bad_gradients: number of rejected updates.
        last_worker: the worker that sent the last update; None if there was none.
        episode_statistics: statistics of the training episodes.
        parameters: ``[P]`` float32.
        optimizer_state: state of the shared optimizer.
        moments: moments of observations and returns; None if nothing is normalised.
        target_parameters: parameters of the target network; ``()`` without a target network.
        best_policy: results of the evaluations so far.
        worker_records: records of the current workers.
        generations: the latest generation of every worker that ever joined.
        lost: workers that are not started again.
        journal_records: number of records in the journal.
        journal_checksum: checksum of the last record.
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
