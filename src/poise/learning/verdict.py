"""What an evaluation says of a policy."""

from typing import NamedTuple

__all__ = ["Episode", "Score", "Verdict"]


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
