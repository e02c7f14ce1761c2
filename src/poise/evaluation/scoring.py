"""Scoring: statistics of the returns of some episodes."""

import math
from statistics import NormalDist

import numpy as np

from poise.learning.evaluation_result import Score

__all__ = ["score", "student_t_quantile"]


def score(returns: np.ndarray, lengths: np.ndarray, *, greedy: bool, cut: int) -> Score:
    """Summarise returns: mean, standard error, and the 95% interval by Student's t."""
    count = len(returns)
    mean = float(np.mean(returns))
    error = float(np.std(returns, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    margin = student_t_quantile(count - 1) * error if count > 1 else math.inf
    return Score(
        mean=mean,
        standard_error=error,
        low=mean - margin,
        high=mean + margin,
        minimum=float(np.min(returns)),
        maximum=float(np.max(returns)),
        episodes=count,
        greedy=greedy,
        cut=cut,
        steps=int(np.sum(lengths)),
    )


def student_t_quantile(freedom: int, probability: float = 0.975) -> float:
    """A quantile of Student's t (Abramowitz & Stegun 1964, equation 26.7.5).

    Args:
        freedom: degrees of freedom, 1 or more.
        probability: between 0 and 1; the expansion is for 0.5 and above.

    The expansion is accurate to 0.0005 from 8 degrees of freedom on for the default probability,
    and from 30 on for higher ones. Below that, SciPy is used, although importing it takes a tenth
    of a second.
    """
    if freedom < (8 if probability <= 0.975 else 30):
        from scipy.special import stdtrit  # noqa: PLC0415

        return float(stdtrit(freedom, probability))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, 1)))
