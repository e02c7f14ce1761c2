"""Reading ``summary.json``: values that poise uses are checked, the rest is left to the user."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from poise.errors import FileFormatError
from poise.learning.journal import StopReason
from poise.storage.files import json_number, read_json
from poise.validation import MAX_COUNT, shown

__all__ = ["read_summary"]

_STOPPED = {reason.name.lower() for reason in StopReason}


def read_summary(path: Path) -> dict[str, Any]:
    """Load a run's summary, and check the values that poise uses.

    Raises:
        RunFolderError: there is no such file, or it cannot be read.
        FileFormatError: it is damaged.
    """
    content = read_json(path)
    _require(path, content, _FIELDS, "")
    if content["solved"] and content["solved_at_steps"] is None:
        raise FileFormatError(f"{path} is damaged: solved is true, but solved_at_steps is null")
    if content["evaluation"] is not None:
        _require(path, content["evaluation"], _SCORE_FIELDS, "evaluation.")
    return content


def _require(
    path: Path, content: dict[str, Any], fields: dict[str, Callable[[Any], bool]], within: str
) -> None:
    for name, fits in fields.items():
        if name not in content:
            raise FileFormatError(f"{path} is damaged: it has no {within}{name}")
        if not fits(content[name]):
            raise FileFormatError(f"{path} is damaged: {within}{name} is {shown(content[name])}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_number(value: Any) -> bool:
    return json_number(value) is not None


def _optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "environment": lambda value: isinstance(value, str),
    "stopped": lambda value: isinstance(value, str) and value in _STOPPED,
    "solved": lambda value: isinstance(value, bool),
    "solved_at_steps": _optional(_is_count),
    "steps": _is_count,
    "training_seconds": _is_number,
    "wall_seconds": _is_number,
    "random_baseline": _optional(_is_number),
    "evaluation": _optional(lambda value: isinstance(value, dict)),
}
_SCORE_FIELDS: dict[str, Callable[[Any], bool]] = {
    "mean": _is_number,
    "standard_error": _optional(_is_number),
    "episodes": _is_count,
}
