"""The input and the result of an evaluation."""

import math
from typing import NamedTuple

from poise.config import STEP_LIMIT
from poise.trajectory import Snapshot

__all__ = ["Candidate", "Episode", "EvaluationResult", "Score"]


class Candidate(NamedTuple):
    """A policy to evaluate, with everything that determines how; a replay uses the same values.

    Attributes:
        snapshot: the parameters to evaluate.
        steps: environment steps of training so far.
        number: number of evaluations before this one; each has its own selection seeds.
        attempts: number of verifications before this one.
        may_verify: whether the wait since the last failed verification is over.
        training_mean: mean return of the last 100 training episodes; None before the first.
        step_limit: an episode is cut after this many steps.
        to_exceed: verified score of the best policy, if that has solved the environment; only a
            candidate that seems better is verified.
    """

    snapshot: Snapshot
    steps: int
    number: int = 0
    attempts: int = 0
    may_verify: bool = True
    training_mean: float | None = None
    step_limit: int = STEP_LIMIT
    to_exceed: float | None = None


class Episode(NamedTuple):
    """The result of one evaluation episode.

    Attributes:
        total: the undiscounted return.
        length: the number of steps.
        cut: whether the episode was cut at the evaluation step limit.
    """

    total: float
    length: int
    cut: bool


class Score(NamedTuple):
    """A policy's score over a number of episodes.

    Attributes:
        mean: mean return.
        standard_error: sample standard deviation divided by the square root of the number of
            episodes.
        low: lower end of the 95% confidence interval of the mean (Student's t).
        high: upper end of that interval.
        minimum: smallest return.
        maximum: largest return.
        episodes: number of episodes.
        greedy: whether the most probable action was always taken.
        cut: number of episodes that were cut at the evaluation step limit.
        steps: environment steps of all episodes together.
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

    @property
    def deviation(self) -> float:
        """The standard deviation of the returns; 0 for a single episode."""
        deviation = self.standard_error * math.sqrt(self.episodes)
        return deviation if math.isfinite(deviation) else 0.0


class EvaluationResult(NamedTuple):
    """The result of one evaluation.

    Attributes:
        selection: the score that candidates are compared by.
        verification: the score on fresh seeds, if the target seemed plausible; else None.
        solved: whether the verification reached the target return clearly, or narrowly and the
            confirmation reached it too.
        confirmation: the score on further fresh seeds; None unless the verification reached the
            target only narrowly.
    """

    selection: Score
    verification: Score | None
    solved: bool
    confirmation: Score | None = None

    @property
    def reported(self) -> Score | None:
        """The score to report: on seeds that were not used to choose anything."""
        return self.confirmation or self.verification

    @property
    def verification_steps(self) -> int:
        """Environment steps of verification and confirmation together."""
        return sum(one.steps for one in (self.verification, self.confirmation) if one is not None)
