"""The data of a learning curve."""

from typing import NamedTuple

import numpy as np

__all__ = ["Episodes", "Marks", "Verified", "drawable"]

LARGEST = 1e300
"""Returns beyond this are not drawn."""


class Episodes(NamedTuple):
    """The episodes and evaluations in a run's metrics.

    Attributes:
        steps: ``[E]`` float64, environment steps when each training episode ended.
        returns: ``[E]`` float64, returns of the training episodes.
        evaluated_steps: ``[K]`` float64, environment steps at each evaluation.
        evaluated_means: ``[K]`` float64, mean returns of the evaluated policy.
        evaluated_versions: ``[K]`` float64, versions of its parameters; -1 if not recorded.
    """

    steps: np.ndarray
    returns: np.ndarray
    evaluated_steps: np.ndarray
    evaluated_means: np.ndarray
    evaluated_versions: np.ndarray


class Verified(NamedTuple):
    """The score of a run's best policy, from fresh episodes.

    Attributes:
        mean: mean return.
        low: lower end of the mean's 95% interval; None if there is none.
        high: upper end of the mean's 95% interval; None if there is none.
        version: version of the parameters that were scored; None if unknown.
    """

    mean: float
    low: float | None
    high: float | None
    version: int | None


class Marks(NamedTuple):
    """What is drawn in addition to a run's metrics.

    Attributes:
        title: title above the plot.
        target: mean return that solves the environment; None if there is no target.
        baseline: mean return of random actions; None if it was not measured.
        verified: score that the run reports; None if it has none.
        policy: how the evaluated policy chose actions: ``greedy`` or ``sampled``.
    """

    title: str
    target: float | None = None
    baseline: float | None = None
    verified: Verified | None = None
    policy: str = "greedy"


def drawable(data: Episodes) -> Episodes:
    """Drop returns that are not finite, or so large that their sums would overflow."""
    episodes = (np.abs(data.returns) < LARGEST) & np.isfinite(data.steps)
    evaluations = (np.abs(data.evaluated_means) < LARGEST) & np.isfinite(data.evaluated_steps)
    return Episodes(
        data.steps[episodes],
        data.returns[episodes],
        data.evaluated_steps[evaluations],
        data.evaluated_means[evaluations],
        data.evaluated_versions[evaluations],
    )
