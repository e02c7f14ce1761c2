"""The events of a run, for terminal output, metrics and callbacks.

They are emitted by the server and by the run. They contain no wall-clock times.
"""

from pathlib import Path
from typing import Any, NamedTuple

from poise.config import TrainConfig
from poise.learning.evaluation_result import EvaluationResult
from poise.learning.journal import StopReason
from poise.learning.run_state import RunState
from poise.trajectory import Snapshot, WorkerUpdate

__all__ = [
    "CheckpointReady",
    "EpisodeFinished",
    "Evaluated",
    "Event",
    "Joined",
    "Rejected",
    "RunStarted",
    "Stopped",
    "SummaryWritten",
    "TrainingSolved",
    "Updated",
    "WorkerRestarted",
]


class RunStarted(NamedTuple):
    """A run begins or is resumed. This is the first event.

    Attributes:
        folder: the run folder.
        config: the run's settings.
        target_return: mean return at which the environment counts as solved; None if there is no
            target.
        steps: environment steps that the run has already taken.
    """

    folder: Path
    config: TrainConfig
    target_return: float | None
    steps: int


class Joined(NamedTuple):
    """A worker joined and begins its first cycle, or continues after a resume.

    Attributes:
        worker: the worker's number, from 0.
        generation: how often the worker had been started before.
        version: version of the parameters that the worker begins with: the number of updates so
            far.
    """

    worker: int
    generation: int
    version: int


class EpisodeFinished(NamedTuple):
    """A training episode ended.

    Attributes:
        worker: number of the worker that played it.
        episode: the episode's number, from 1, over all workers.
        steps: environment steps of all workers so far.
        episode_return: undiscounted sum of the environment's own rewards.
        length: number of steps.
        moving_average: moving average of the returns (0.99 old + 0.01 new, from the first return).
        loss: loss of the update that contains the end of the episode.
    """

    worker: int
    episode: int
    steps: int
    episode_return: float
    length: int
    moving_average: float
    loss: float


class Updated(NamedTuple):
    """An update was applied.

    Attributes:
        worker: number of the worker that sent it.
        update: version of the parameters after the update, from 1; all updates of a batch have the
            same version.
        steps: environment steps of all workers so far.
        metrics: the algorithm's metrics. A3C: ``loss`` (policy loss, plus the weighted value loss,
            minus the weighted entropy), ``policy_loss`` (mean over the rollout's steps),
            ``value_loss`` (half the mean squared error of the critic), ``entropy`` (mean entropy of
            the policy, in nats), ``gradient_norm`` (before clipping). PPO: the same, as means over
            all minibatches, and ``clip_fraction`` (fraction of the steps outside the clip range)
            and ``approximate_kl`` (KL divergence from the policy that acted, in nats).
        staleness: number of updates between the worker's snapshot and its update.
        learning_rate: learning rate of the update.
    """

    worker: int
    update: int
    steps: int
    metrics: dict[str, float]
    staleness: int
    learning_rate: float


class Evaluated(NamedTuple):
    """The policy was evaluated.

    Attributes:
        version: number of updates so far.
        steps: environment steps of all workers so far.
        result: the scores, and whether the policy solved the environment.
        is_best: whether this policy is the best so far.
        snapshot: the parameters that were evaluated.
    """

    version: int
    steps: int
    result: EvaluationResult
    is_best: bool
    snapshot: Snapshot


class TrainingSolved(NamedTuple):
    """The mean of the last 100 training episodes reached the target for the first time.

    Attributes:
        steps: environment steps of all workers so far.
        episodes: training episodes so far.
    """

    steps: int
    episodes: int


class WorkerRestarted(NamedTuple):
    """A worker that died, hung or raised an exception is started again.

    Attributes:
        worker: the worker's number, from 0.
        generation: how often the worker has been started before.
        cause: what happened to the worker, as a sentence.
    """

    worker: int
    generation: int
    cause: str


class Stopped(NamedTuple):
    """Training ended; no more updates are accepted.

    Attributes:
        reason: why training ended.
        steps: environment steps of all workers.
    """

    reason: StopReason
    steps: int


class SummaryWritten(NamedTuple):
    """The run has been scored and all its files are written. This is the last event.

    Attributes:
        folder: the run folder.
        summary: the content of ``summary.json``.
    """

    folder: Path
    summary: dict[str, Any]


class Rejected(NamedTuple):
    """An update was not finite and was not applied.

    Attributes:
        worker: number of the worker that sent it.
        version: number of updates so far.
        bad_gradients: number of rejected updates so far.
        worker_update: the update, with its rollout as evidence if available.
    """

    worker: int
    version: int
    bad_gradients: int
    worker_update: WorkerUpdate


class CheckpointReady(NamedTuple):
    """The run can be resumed from this state; a checkpoint is made from it.

    Attributes:
        run_state: the state, internal to poise; its content may change between versions.
    """

    run_state: RunState


Event = (
    RunStarted
    | CheckpointReady
    | Joined
    | Rejected
    | EpisodeFinished
    | Updated
    | Evaluated
    | TrainingSolved
    | WorkerRestarted
    | Stopped
    | SummaryWritten
)
