"""What is asked of an evaluation, and what it says."""

import math
from typing import NamedTuple

from poise.config import STEP_LIMIT
from poise.trajectory import Snapshot

__all__ = ["Candidate", "Episode", "EvaluationResult", "Score"]


class Candidate(NamedTuple):
    """A policy that is to be evaluated, and what decides how: a replay asks the same.

    Attributes:
        snapshot: what acts.
        steps: environment steps of training so far.
        number: evaluations before this one; each has selection seeds of its own.
        attempts: verifications before this one.
        may_verify: the wait since the last verification that failed is over.
        training_mean: mean return of the last 100 training episodes, None before the first.
        step_limit: an episode is cut after this many steps.
    """

    snapshot: Snapshot
    steps: int
    number: int = 0
    attempts: int = 0
    may_verify: bool = True
    training_mean: float | None = None
    step_limit: int = STEP_LIMIT


class Episode(NamedTuple):
    """What one episode of an evaluation came to.

    Attributes:
        total: its return.
        length: its steps.
        cut: whether it was cut at the evaluation step limit.
    """

    total: float
    length: int
    cut: bool


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

    @property
    def deviation(self) -> float:
        """The standard deviation of the returns; 0 of a single one."""
        deviation = self.standard_error * math.sqrt(self.episodes)
        return deviation if math.isfinite(deviation) else 0.0


class EvaluationResult(NamedTuple):
    """The outcome of one evaluation.

    Attributes:
        selection: the score that candidates are compared by.
        verification: the score on fresh seeds, if the target was plausible.
        solved: the verification reached the target return: clearly, or once more.
        confirmation: where it reached the target narrowly: the score on further fresh seeds.
    """

    selection: Score
    verification: Score | None
    solved: bool
    confirmation: Score | None = None

    @property
    def reported(self) -> Score | None:
        """The score that is reported: of the seeds that nothing was chosen by."""
        return self.confirmation or self.verification

    @property
    def verification_steps(self) -> int:
        """Environment steps that verification and confirmation took."""
        return sum(one.steps for one in (self.verification, self.confirmation) if one is not None)
