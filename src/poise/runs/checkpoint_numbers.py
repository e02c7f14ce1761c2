"""The numbers in a checkpoint, each held against what it can be.

A hash says that a file is as it was written, not that a run can have come to it: what is impossible
is refused here, before anything counts on it.
"""

import math
from typing import Any, NamedTuple

from poise.learning.tally import MEAN_WINDOW, TallyState
from poise.learning.verdict import Score, Verdict
from poise.validation import MAX_COUNT, shown

__all__ = [
    "MAX_CHECKSUM",
    "MAX_INCARNATION",
    "MAX_VERSION",
    "Offsets",
    "offsets_from_json",
    "optional_number",
    "tally_from_json",
    "verdict_from_json",
    "verdict_to_json",
    "whole",
]

MAX_VERSION = 2**31 - 1
"""Snapshots carry it in 32 bits."""
MAX_INCARNATION = 2**32 - 2
"""The journal has 32 bits for it, and there must be a next one."""
MAX_CHECKSUM = 2**32 - 1
"""CRC-32."""


class Offsets(NamedTuple):
    """Where the run's files were, and what its clock and judge had counted, at the cut."""

    journal_bytes: int
    metrics_bytes: int
    training_seconds: float
    wall_seconds: float
    restarts: int
    solved_at_steps: int | None
    training_solved_seconds: float | None
    training_solved_steps: int | None


def whole(value: Any, what: str, most: int = MAX_COUNT, least: int = 0) -> int:
    """A whole number within bounds.

    Raises:
        ValueError: it is something else; the message says what.
    """
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is {shown(value)}")
    return value


def offsets_from_json(content: Any, steps: int) -> Offsets:
    """Offsets of a cut after so many steps; the run's files will be cut there."""
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


def tally_from_json(content: Any) -> TallyState:
    """The tally of the training episodes."""
    episodes, average, recent, solved, lengths = content
    whole(episodes, "the number of episodes")
    kept = min(episodes, MEAN_WINDOW)
    if (average is None) is not (episodes == 0) or (len(recent), len(lengths)) != (kept, kept):
        raise ValueError(f"{len(recent)} returns are kept of {episodes} episodes")
    return TallyState(
        episodes,
        None if average is None else _number(average, "the moving average"),
        tuple(_number(one, "a return") for one in recent),
        _truth(solved, "solved in training"),
        tuple(whole(one, "the length of an episode") for one in lengths),
    )


def verdict_to_json(verdict: Verdict | None) -> Any:
    """A verdict as JSON types."""
    if verdict is None:
        return None
    return [
        list(verdict.selection),
        None if verdict.verification is None else list(verdict.verification),
        verdict.solved,
        None if verdict.confirmation is None else list(verdict.confirmation),
    ]


def verdict_from_json(content: Any) -> Verdict | None:
    """A verdict from `verdict_to_json`."""
    if content is None:
        return None
    selection, verification, solved, confirmation = content
    fresh = None if verification is None else _score(verification)
    further = None if confirmation is None else _score(confirmation)
    if fresh is None and (_truth(solved, "solved") or further is not None):
        raise ValueError("a policy is solved, or confirmed, that was not verified")
    return Verdict(_score(selection), fresh, _truth(solved, "solved"), further)


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
    """A number, or None."""
    return None if value is None else _number(value, what)


def _number(value: Any, what: str, *, finite: bool = False, least: float = -math.inf) -> float:
    """A number; where a single episode leaves it undefined, it may be NaN or infinite."""
    if type(value) not in (int, float) or (finite and not least <= value < math.inf):
        raise ValueError(f"{what} is {shown(value)}")
    return float(value)


def _truth(value: Any, what: str) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{what} is {shown(value)}")
    return value
