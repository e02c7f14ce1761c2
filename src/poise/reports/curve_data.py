"""What a learning curve shows."""

from typing import NamedTuple

import numpy as np

__all__ = ["Episodes", "Marks", "Verified", "drawable"]

LARGEST = 1e300
"""Returns beyond this are not drawn."""


class Episodes(NamedTuple):
    """What a run's records say of its episodes.

    Attributes:
        steps: ``[E]`` float64, environment steps when each training episode ended.
        returns: ``[E]`` float64, their returns.
        evaluated_steps: ``[K]`` float64, environment steps at each evaluation.
        evaluated_means: ``[K]`` float64, mean returns of the greedy policy.
        evaluated_versions: ``[K]`` float64, of the parameters; -1 where the record does not say.
    """

    steps: np.ndarray
    returns: np.ndarray
    evaluated_steps: np.ndarray
    evaluated_means: np.ndarray
    evaluated_versions: np.ndarray


class Verified(NamedTuple):
    """The score of a run's best policy, from fresh episodes.

    Attributes:
        mean: return.
        low: lower end of the mean's 95% interval, None if there is none.
        high: upper end.
        version: of the parameters that were scored, None if it is not known.
    """

    mean: float
    low: float | None
    high: float | None
    version: int | None


class Marks(NamedTuple):
    """What is drawn beside a run's records.

    Attributes:
        title: above the plot.
        target: the return that solves the environment, if any does.
        baseline: the mean return of random actions, if it was measured.
        verified: the score that the run reports, if it has one.
    """

    title: str
    target: float | None = None
    baseline: float | None = None
    verified: Verified | None = None


def drawable(data: Episodes) -> Episodes:
    """Without returns that are no numbers, or so large that their sums are none."""
    episodes = (np.abs(data.returns) < LARGEST) & np.isfinite(data.steps)
    evaluations = (np.abs(data.evaluated_means) < LARGEST) & np.isfinite(data.evaluated_steps)
    return Episodes(
        data.steps[episodes],
        data.returns[episodes],
        data.evaluated_steps[evaluations],
        data.evaluated_means[evaluations],
        data.evaluated_versions[evaluations],
    )
