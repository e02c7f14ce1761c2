"""A summary that somebody altered gives one error line, from every command that reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from poise.cli import main
from poise.errors import FileFormatError
from poise.storage.run_folder import load_summary

from ..small import copy, summary

WRONG: list[tuple[str, Any]] = [
    ("stopped", []),
    ("stopped", "bogus"),
    ("stopped", None),
    ("environment", 5),
    ("solved", "yes"),
    ("solved", True),
    ("solved_at_steps", "x"),
    ("steps", "x"),
    ("steps", -1),
    ("steps", 1.5),
    ("training_seconds", "x"),
    ("wall_seconds", 10**400),
    ("wall_seconds", float("nan")),
    ("evaluation", 5),
    ("evaluation", {}),
    ("evaluation", {"mean": "x", "standard_error": 1.0, "episodes": 5}),
    ("evaluation", {"mean": 1.0, "standard_error": 1.0, "episodes": None}),
    ("random_baseline", 10**400),
    ("random_baseline", "x" * 10**6),
]
NAMES = [f"{name}-{str(value)[:12]}" for name, value in WRONG]


def alter(folder: Path, content: dict[str, Any]) -> None:
    (folder / "summary.json").write_text(json.dumps(content))


@pytest.mark.parametrize(("name", "value"), WRONG, ids=NAMES)
def test_a_wrong_value_is_named(name: str, value: Any, serial_run: Path, tmp_path: Path):
    alter(tmp_path, {**summary(serial_run), name: value})
    with pytest.raises(FileFormatError, match=r"summary\.json is damaged") as caught:
        load_summary(tmp_path)
    assert name.split("_")[0] in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["stopped", "evaluation", "steps", "environment", "solved"])
def test_a_missing_value_is_named(name: str, serial_run: Path, tmp_path: Path):
    content = summary(serial_run)
    del content[name]
    alter(tmp_path, content)
    with pytest.raises(FileFormatError, match=f"it has no {name}"):
        load_summary(tmp_path)


@pytest.mark.parametrize("content", [{"stopped": "max_steps"}, {"stopped": [], "steps": "x"}])
@pytest.mark.parametrize("command", ["resume", "plot"])
def test_the_commands_report_it(
    command: str,
    content: dict[str, Any],
    serial_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    folder = copy(serial_run, tmp_path)
    alter(folder, content)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([command, str(folder)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "summary.json is damaged" in said[0]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
