"""Where the episodes of selections are played: not in Gymnasium's own environment if possible.

Candidates are only compared there. What is verified and reported is measured on Gymnasium's own
environment, and if the two scores of one policy cannot be reconciled, that is reported.
"""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from poise.evaluation.scoring import score
from poise.learning.evaluation_result import Score
from poise.number_format import numbers
from poise.trajectory import Snapshot
from poise.user_warnings import warn_caller

__all__ = ["Batch", "Played", "SelectionPlayer", "score_together", "warn_if_different"]

Batch = tuple[list[np.random.SeedSequence], np.random.SeedSequence | None]
"""A seed for each of the episodes played side by side, and one for their actions; None: greedy."""
Played = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Returns and lengths of some episodes, and which ones were not cut."""
FEWEST_EPISODES = 10
"""The deviation of fewer episodes says too little."""
TOO_MANY_ERRORS = 4.0
"""Two scores differ by more than chance if their difference is this many standard errors."""
ROUNDING = 1e-4
"""Relative difference that rounding may cause: rewards may be added up in float32."""


@runtime_checkable
class SelectionPlayer(Protocol):
    """Plays the episodes of selections, each to its end, all of a batch side by side."""

    place: str
    """Where it plays, as a part of a sentence."""

    def play(
        self,
        snapshot: Snapshot,
        batches: list[Batch],
        step_limit: int,
        beat: Callable[[], None],
    ) -> Score:
        """Play several batches of the same size, and score all their episodes together.

        Args:
            snapshot: the parameters that act.
            batches: the seeds.
            step_limit: an episode is cut after this many steps.
            beat: called from time to time; may raise to abort.
        """


def score_together(played: list[Played], *, greedy: bool) -> Score:
    """Score all episodes of several batches."""
    returns, lengths, done = (np.concatenate(parts) for parts in zip(*played, strict=True))
    return score(returns.astype(np.float64), lengths, greedy=greedy, cut=int(np.sum(~done)))


def warn_if_different(selection: Score, verification: Score, place: str) -> None:
    """Warn if one policy's scores there and in the environment differ by more than chance."""
    if _differ(selection, verification):
        warn_caller(
            f"{place} differs from Gymnasium's own environment: the same policy reaches "
            f"{_interval(selection)} there and {_interval(verification)} in Gymnasium's; train "
            "with --world copies, and please report this"
        )


def _differ(selection: Score, verification: Score) -> bool:
    """Return whether two scores of one policy differ by more than chance and rounding.

    A few episodes may all have the same return by chance, so the larger of both standard deviations
    is used for both scores.
    """
    if min(selection.episodes, verification.episodes) < FEWEST_EPISODES:
        return False
    deviation = max(selection.deviation, verification.deviation)
    error = deviation * math.sqrt(1 / selection.episodes + 1 / verification.episodes)
    difference = abs(selection.mean - verification.mean)
    scale = max(abs(selection.mean), abs(verification.mean))
    return difference > TOO_MANY_ERRORS * error + ROUNDING * scale


def _interval(score: Score) -> str:
    mean, low, high = numbers(score.mean, score.low, score.high)
    return f"{mean} on average over {score.episodes} episodes (95%: {low} to {high})"
