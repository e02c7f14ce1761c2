"""The stream of events: what happened in a run, for terminal, metrics and callbacks alike.

The server and the run emit them; nothing in them was read from a clock.
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
    """A run begins, or goes on where it was cut; the first event.

    Attributes:
        folder: of the run.
        config: its settings.
        target_return: what solves the environment; None if nothing does.
        steps: environment steps that it has taken already.
    """

    folder: Path
    config: TrainConfig
    target_return: float | None
    steps: int


class Joined(NamedTuple):
    """A worker was admitted, and begins its first cycle.

    Attributes:
        worker: its number, from 0.
        generation: how often it had been started before.
        version: of the parameters that it begins with: the number of updates behind them.
    """

    worker: int
    generation: int
    version: int


class EpisodeFinished(NamedTuple):
    """A training episode ended.

    Attributes:
        worker: in whose environments.
        episode: its number, from 1, over all workers.
        steps: environment steps of all workers so far.
        episode_return: the sum of its rewards, undiscounted, as the environment gave them.
        length: its steps.
        moving_average: of the returns: 0.99 of the old and 0.01 of this one, begun at the first.
        loss: of the update that the episode ended in.
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
        worker: whose it was.
        update: the version of the parameters that it led to, from 1: where workers wait for each
            other, that of all updates of a batch.
        steps: environment steps of all workers so far.
        metrics: what the algorithm logs. A3C: ``loss`` (policy loss, plus the weighted value loss,
            less the weighted entropy), ``policy_loss`` (mean over the rollout's steps),
            ``value_loss`` (half the mean squared error of the critic), ``entropy`` (mean of the
            policy's, in nats), ``gradient_norm`` (before it was clipped). PPO: the same, as means
            over all minibatches, and ``clip_fraction`` (share of the steps beyond the clip range)
            and ``approximate_kl`` (divergence from the policy that acted, in nats).
        staleness: updates between the worker's snapshot and its update.
        learning_rate: that it was applied with.
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
        result: the selection's score, the verification's if there was one, and whether it solves.
        is_best: no candidate before was better.
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
    """A worker that died, hung or raised is started again.

    Attributes:
        worker: its number, from 0.
        generation: how often it has been started before.
        cause: what became of it, as a sentence.
    """

    worker: int
    generation: int
    cause: str


class Stopped(NamedTuple):
    """Training ended; nothing is accepted any more.

    Attributes:
        reason: why.
        steps: environment steps of all workers.
    """

    reason: StopReason
    steps: int


class SummaryWritten(NamedTuple):
    """The run is scored, and everything of it is written; the last event.

    Attributes:
        folder: of the run.
        summary: the content of ``summary.json``.
    """

    folder: Path
    summary: dict[str, Any]


class Rejected(NamedTuple):
    """An update was not finite, and was not applied.

    Attributes:
        worker: whose it was.
        version: number of updates so far.
        bad_gradients: how many such there have been.
        worker_update: with the batch behind it, where the worker could tell.
    """

    worker: int
    version: int
    bad_gradients: int
    worker_update: WorkerUpdate


class CheckpointReady(NamedTuple):
    """The run can be resumed from here: what a checkpoint is made of.

    Attributes:
        run_state: poise's own; what is in it may change between versions.
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
