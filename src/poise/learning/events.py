"""The stream of events: what happened in a run, for terminal, metrics and callbacks alike.

The owner emits them; nothing in them was read from a clock.
"""

from typing import NamedTuple

from poise.learning.cut import Cut
from poise.learning.journal import StopReason
from poise.learning.verdict import Verdict
from poise.trajectory import Contribution, Snapshot

__all__ = [
    "CutTaken",
    "EpisodeFinished",
    "Evaluated",
    "Event",
    "Joined",
    "Rejected",
    "Stopped",
    "TrainingSolved",
    "Updated",
]


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
    """The policy was evaluated."""

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
