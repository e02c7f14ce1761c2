"""The stream of events: what happened in a run, for terminal, metrics and callbacks alike.

The owner emits them; nothing in them was read from a clock.
"""

from typing import NamedTuple

from poise.learning.cut import Cut
from poise.learning.journal import StopReason
from poise.trajectory import Contribution, Snapshot

__all__ = [
    "CutTaken",
    "EpisodeFinished",
    "Evaluated",
    "Event",
    "Joined",
    "Rejected",
    "Score",
    "Stopped",
    "TrainingSolved",
    "Updated",
    "Verdict",
]


class Score(NamedTuple):
    """What a policy reached over a number of episodes, one number each.

    Attributes:
        mean: mean return.
        standard_error: sample standard deviation over the square root of the number of episodes.
        low: lower end of the 95% interval of the mean (Student's t).
        high: upper end.
        minimum: smallest return.
        maximum: largest return.
        episodes: how many.
        greedy: whether the most probable action was taken.
        cut: how many were cut at the evaluation step limit.
        steps: environment steps that were taken.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    minimum: float
    maximum: float
    episodes: int
    greedy: bool
    cut: int
    steps: int


class Verdict(NamedTuple):
    """The outcome of one evaluation.

    Attributes:
        selection: the score on the seeds that candidates are selected on.
        verification: the score on fresh seeds, if the candidate was worth it.
        solved: the verification reached the target return.
    """

    selection: Score
    verification: Score | None
    solved: bool


class Joined(NamedTuple):
    """A worker was admitted, and begins its first cycle."""

    worker: int
    incarnation: int
    version: int


class EpisodeFinished(NamedTuple):
    """A training episode ended."""

    worker: int
    episode: int
    steps: int
    episode_return: float
    length: int
    moving_average: float
    loss: float


class Updated(NamedTuple):
    """A contribution was applied."""

    worker: int
    update: int
    steps: int
    loss: float
    policy_loss: float
    value_loss: float
    entropy: float
    gradient_norm: float
    staleness: int
    learning_rate: float


class Evaluated(NamedTuple):
    """The greedy policy was evaluated."""

    version: int
    steps: int
    verdict: Verdict
    is_best: bool
    snapshot: Snapshot


class TrainingSolved(NamedTuple):
    """The mean of the last 100 training episodes reached the target for the first time."""

    steps: int
    episodes: int


class Stopped(NamedTuple):
    """The run ended; nothing is accepted any more."""

    reason: StopReason
    steps: int


class Rejected(NamedTuple):
    """A contribution was not finite, and was not applied."""

    worker: int
    version: int
    bad_gradients: int
    contribution: Contribution


class CutTaken(NamedTuple):
    """The run can go on from here, if it is cut off: what a checkpoint is made of."""

    cut: Cut


Event = (
    CutTaken | Joined | Rejected | EpisodeFinished | Updated | Evaluated | TrainingSolved | Stopped
)
