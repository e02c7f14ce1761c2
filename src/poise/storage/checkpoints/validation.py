"""Validation of the numbers in a checkpoint.

A hash shows only that a file is unchanged since it was written, not that a run can have written it:
impossible values are rejected here, before anything depends on them.
"""

import math
from typing import Any, NamedTuple

from poise.learning.episode_statistics import MEAN_WINDOW, EpisodeStatisticsState
from poise.learning.evaluation_result import EvaluationResult, Score
from poise.validation import MAX_COUNT, shown

__all__ = [
    "MAX_CHECKSUM",
    "MAX_GENERATION",
    "MAX_VERSION",
    "Offsets",
    "episode_statistics_from_json",
    "evaluation_result_from_json",
    "evaluation_result_to_json",
    "offsets_from_json",
    "optional_number",
    "whole",
]

MAX_VERSION = 2**31 - 1
"""Snapshots store the version in 32 bits."""
MAX_GENERATION = 2**32 - 2
"""The journal stores the generation in 32 bits, and a next one must be possible."""
MAX_CHECKSUM = 2**32 - 1
"""CRC-32."""


class Offsets(NamedTuple):
    """Sizes of the run's files, and values of its clock and evaluator."""

    journal_bytes: int
    metrics_bytes: int
    training_seconds: float
    wall_seconds: float
    restarts: int
    solved_at_steps: int | None
    training_solved_seconds: float | None
    training_solved_steps: int | None


def whole(value: Any, what: str, most: int = MAX_COUNT, least: int = 0) -> int:
    """Check that a value is a whole number within bounds, and return it.

    Raises:
        ValueError: it is not; the message names the value.
    """
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is {shown(value)}")
    return value


def offsets_from_json(content: Any, steps: int) -> Offsets:
    """Read the offsets of a state after this many steps; the run's files are truncated there."""
    offsets = Offsets(*content)
    for name in ("journal_bytes", "metrics_bytes", "restarts"):
        whole(getattr(offsets, name), name)
    for name in ("solved_at_steps", "training_solved_steps"):
        value = getattr(offsets, name)
        if value is not None:
            whole(value, name, steps)
    for name in ("training_seconds", "wall_seconds", "training_solved_seconds"):
        value = getattr(offsets, name)
        if value is not None or name != "training_solved_seconds":
            _number(value, name, finite=True, least=0.0)
    return offsets


def episode_statistics_from_json(content: Any) -> EpisodeStatisticsState:
    """Read the statistics of the training episodes."""
    episodes, average, recent, solved, lengths = content
    whole(episodes, "the number of episodes")
    kept = min(episodes, MEAN_WINDOW)
    if (average is None) is not (episodes == 0) or (len(recent), len(lengths)) != (kept, kept):
        raise ValueError(f"{len(recent)} returns are kept of {episodes} episodes")
    return EpisodeStatisticsState(
        episodes,
        None if average is None else _number(average, "the moving average"),
        tuple(_number(one, "a return") for one in recent),
        _truth(solved, "solved in training"),
        tuple(whole(one, "the length of an episode") for one in lengths),
    )


def evaluation_result_to_json(result: EvaluationResult | None) -> Any:
    """Return a result as JSON types."""
    if result is None:
        return None
    return [
        list(result.selection),
        None if result.verification is None else list(result.verification),
        result.solved,
        None if result.confirmation is None else list(result.confirmation),
    ]


def evaluation_result_from_json(content: Any) -> EvaluationResult | None:
    """Return the result that `evaluation_result_to_json` encoded."""
    if content is None:
        return None
    selection, verification, solved, confirmation = content
    fresh = None if verification is None else _score(verification)
    further = None if confirmation is None else _score(confirmation)
    if fresh is None and (_truth(solved, "solved") or further is not None):
        raise ValueError("a policy was solved or confirmed, but not verified")
    return EvaluationResult(_score(selection), fresh, _truth(solved, "solved"), further)


def _score(content: Any) -> Score:
    score = Score(*content)
    for name in ("mean", "standard_error", "low", "high", "minimum", "maximum"):
        _number(getattr(score, name), name)
    whole(score.episodes, "the episodes of a score", least=1)
    whole(score.cut, "the episodes cut", score.episodes)
    whole(score.steps, "the steps of a score")
    _truth(score.greedy, "greedy")
    return score


def optional_number(value: Any, what: str) -> float | None:
    """Check that a value is a number or None, and return it."""
    return None if value is None else _number(value, what)


def _number(value: Any, what: str, *, finite: bool = False, least: float = -math.inf) -> float:
    """Check a number, and return it; if undefined for one episode, it may be NaN or infinite."""
    if type(value) not in (int, float) or (finite and not least <= value < math.inf):
        raise ValueError(f"{what} is {shown(value)}")
    return float(value)


def _truth(value: Any, what: str) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{what} is {shown(value)}")
    return value
