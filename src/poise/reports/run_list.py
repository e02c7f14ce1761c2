"""A list of the runs in a folder. This module does not import JAX, so that listing is fast."""

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from poise.errors import FileFormatError, InputError, RunFolderError
from poise.number_format import short, with_error
from poise.safe_open import open_to_read
from poise.storage.files import is_locked, json_number, read_json
from poise.storage.summary_file import read_summary
from poise.validation import MAX_COUNT

__all__ = ["RunSummary", "Status", "list_runs", "table"]

DEPTH = 3
"""Number of folder levels that are searched."""
TAIL_BYTES = 1 << 16
"""The number of steps is searched for in this many bytes at the end of the metrics."""
SHORTEST = 12
"""Minimum width of the folder and environment columns if a table is too wide."""

Status = Literal["solved", "not solved", "no target", "stopped", "failed", "running", "cut off"]
"""Status of a run. ``stopped``: ended by a signal; ``cut off``: killed before it could end."""
_ENDS: dict[str, Status] = {
    "interrupted": "stopped",
    "terminated": "stopped",
    "failed": "failed",
    "not_finite": "failed",
}

_SHOWN: dict[Status, str] = {"solved": "yes", "not solved": "no", "no target": "-"}


class RunSummary(NamedTuple):
    """One run.

    Attributes:
        folder: the run's folder.
        environment: the environment's name.
        seed: the run's seed.
        status: the run's status.
        mean: the verified score; None if there is none.
        standard_error: standard error of the mean; None if there is none.
        target: mean return that solves the environment; None if there is no target.
        steps: environment steps recorded so far.
        when: POSIX time when the run ended, or when it last wrote.
    """

    folder: Path
    environment: str
    seed: int
    status: Status
    mean: float | None
    standard_error: float | None
    target: float | None
    steps: int
    when: float

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON types; the time is in ISO 8601 format, in UTC."""
        when = datetime.datetime.fromtimestamp(self.when, datetime.UTC)
        return {
            **self._asdict(),
            "folder": str(self.folder),
            "when": when.isoformat(timespec="seconds"),
        }


def list_runs(folder: Path) -> tuple[list[RunSummary], list[str]]:
    """Find the runs in a folder, at most three levels deep, the latest run last.

    Args:
        folder: a folder that contains runs, or a run's folder itself.

    Returns:
        The runs, and an error message for each run that cannot be read.

    Raises:
        RunFolderError: the folder does not exist.
    """
    if not folder.is_dir():
        raise RunFolderError(
            f"there is no folder {folder}: poise train writes runs to runs/, or to --run-dir"
        )
    runs, problems = [], []
    for place in _places(folder, DEPTH):
        try:
            runs.append(_listed(place))
        except InputError as error:
            if (place / "journal").exists():
                problems.append(str(error))
    return sorted(runs, key=lambda one: (one.when, str(one.folder))), problems


def table(runs: list[RunSummary], base: Path, width: int | None) -> list[str]:
    """A table of runs: a heading and one row per run.

    Args:
        runs: the runs.
        base: the runs' folders are shown relative to this folder.
        width: maximum number of characters per row; names are shortened to fit. None: no limit.
    """
    times = [datetime.datetime.fromtimestamp(one.when) for one in runs]
    form = "%m-%d %H:%M" if len({time.year for time in times}) < 2 else "%Y-%m-%d %H:%M"
    rows = [["run", "environment", "seed", "solved", "score", "steps", "when"]]
    for one, time in zip(runs, times, strict=True):
        inside = one.folder.relative_to(base) if one.folder.is_relative_to(base) else one.folder
        name = one.folder.name if inside == Path() else str(inside)
        rows.append(
            [
                _printable(name or str(one.folder)),
                _printable(one.environment),
                str(one.seed),
                _SHOWN.get(one.status, one.status),
                _score(one),
                short(one.steps),
                time.strftime(form),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if width is not None:
        _shrink(widths, width)
    return [
        "  ".join(
            f"{_middle(cell, room):{'>' if heading in ('seed', 'steps') else '<'}{room}}"
            for cell, room, heading in zip(row, widths, rows[0], strict=True)
        ).rstrip()
        for row in rows
    ]


def _places(folder: Path, depth: int) -> Iterator[Path]:
    """The folders that may contain a run."""
    # Unlike Path.is_file, this does not raise for folders that the user may not read.
    if os.path.isfile(folder / "config.json"):
        yield folder
        return
    if not depth:
        return
    try:
        inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in inside:
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _places(folder / entry.name, depth - 1)


def _listed(folder: Path) -> RunSummary:
    path = folder / "config.json"
    content = read_json(path)
    settings, resolved = content.get("settings"), content.get("resolved")
    if not isinstance(settings, dict) or not isinstance(resolved, dict):
        raise FileFormatError(f"{path} is damaged: settings are missing")
    environment, seed = settings.get("environment"), settings.get("seed")
    if not isinstance(environment, str) or type(seed) is not int or not 0 <= seed <= MAX_COUNT:
        raise FileFormatError(f"{path} is damaged: environment or seed are missing")
    target = json_number(resolved.get("target_return"))
    if not (folder / "summary.json").exists():
        status: Status = "running" if is_locked(folder) else "cut off"
        last = _last(folder)
        return RunSummary(
            folder, environment, seed, status, None, None, target, _last_steps(last), _time(last)
        )
    summary = read_summary(folder / "summary.json")
    score = summary["evaluation"] or {}
    if summary["solved"]:
        status = "solved"
    else:
        ended: Status = "no target" if target is None else "not solved"
        status = _ENDS.get(summary["stopped"], ended)
    return RunSummary(
        folder,
        environment,
        seed,
        status,
        json_number(score.get("mean")),
        json_number(score.get("standard_error")),
        target,
        summary["steps"],
        _time(folder / "summary.json"),
    )


def _last(folder: Path) -> Path:
    """The file that an unfinished run wrote last."""
    metrics = folder / "metrics.jsonl"
    return metrics if metrics.is_file() else folder / "config.json"


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error


def _last_steps(metrics: Path) -> int:
    """The number of steps in the last metrics row that contains one."""
    try:
        with open_to_read(metrics) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            steps = json.loads(line)["steps"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if type(steps) is int and 0 <= steps <= MAX_COUNT:
            return steps
    return 0


def _score(one: RunSummary) -> str:
    if one.mean is None:
        return "-"
    against = () if one.target is None else (one.target,)
    return with_error(one.mean, one.standard_error, *against)


def _shrink(widths: list[int], width: int) -> None:
    """Narrow the two name columns, the wider one first, until the table fits."""
    over = sum(widths) + 2 * (len(widths) - 1) - width
    for _ in range(max(0, over)):
        longer = 0 if widths[0] >= widths[1] else 1
        if widths[longer] <= SHORTEST:
            return
        widths[longer] -= 1


def _middle(text: str, room: int) -> str:
    """Cut out the middle of a long text: runs are distinguished by both ends of their names."""
    if len(text) <= room:
        return text
    end = (room - 1) // 2
    return f"{text[: room - 1 - end]}…{text[len(text) - end :]}"


def _printable(text: str) -> str:
    """Replace unprintable characters: names come from files, and could control the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
