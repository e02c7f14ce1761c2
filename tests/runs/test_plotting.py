"""The learning curve: a PNG from whatever a run wrote, and one sentence where it is damaged."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from poise.cli import main
from poise.errors import ConfigError, FileFormatError, RunFolderError
from poise.runs.curve import read_episodes
from poise.runs.plotting import plot_folder

from .small import copy, summary

PNG = b"\x89PNG\r\n\x1a\n"
ROW = {"kind": "episode", "steps": 10, "return": 3.0, "moving_average": 3.0}


@pytest.fixture
def altered(serial_run: Path, tmp_path: Path) -> Path:
    folder = copy(serial_run, tmp_path)
    (folder / "learning_curve.png").unlink()
    return folder


def test_it_is_drawn_beside_the_run(altered: Path):
    path = plot_folder(altered)
    assert path == altered / "learning_curve.png"
    assert path.read_bytes().startswith(PNG)
    assert not list(altered.glob("*.tmp"))


def test_or_where_it_is_asked_for(altered: Path, tmp_path: Path):
    path = plot_folder(altered, tmp_path / "elsewhere.png")
    assert path.read_bytes().startswith(PNG)
    assert not (altered / "learning_curve.png").exists()


def test_target_and_baseline_are_drawn_in(altered: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: dict[str, float] = {}
    axhline = Axes.axhline

    def note(self: Axes, y: float, **style: Any) -> Any:
        drawn[style["label"]] = y
        return axhline(self, y, **style)

    monkeypatch.setattr(Axes, "axhline", note)
    plot_folder(altered)
    assert drawn["solved at 475"] == 475.0
    baseline = summary(altered)["random_baseline"]
    assert drawn[f"random: {baseline:.1f}"] == baseline
    assert 15 < baseline < 30


@pytest.mark.parametrize(
    "content",
    [
        "",
        json.dumps(ROW) + "\n",
        json.dumps({**ROW, "steps": 0}) + "\n",
        json.dumps(ROW) + "\n" + json.dumps(ROW)[:-9],
        '{"kind": "something new"}\n',
    ],
    ids=["empty", "one episode", "no steps", "killed while it wrote", "another kind"],
)
def test_little_is_enough(altered: Path, content: str):
    (altered / "metrics.jsonl").write_text(content)
    assert plot_folder(altered).read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    "row",
    [
        "not json",
        "[]",
        "null",
        "{}",
        json.dumps({**ROW, "steps": None}),
        json.dumps({**ROW, "return": "many"}),
        '{"kind": "evaluation", "steps": 1, "selection": []}',
        '{"kind": "episode", "return": 1, "moving_average": 1, "steps": 1' + "0" * 400 + "}",
        "[" * 100_000,
        "\x00",
    ],
    ids=lambda row: row[:20],
)
def test_a_damaged_row_is_named(altered: Path, row: str):
    (altered / "metrics.jsonl").write_text(json.dumps(ROW) + "\n" + row + "\n")
    with pytest.raises(FileFormatError, match=r"metrics\.jsonl, line 2 is damaged"):
        plot_folder(altered)
    assert not (altered / "learning_curve.png").exists()


def test_what_is_not_text_is_damaged(altered: Path):
    (altered / "metrics.jsonl").write_bytes(b"\xff\xfe\xfd\n")
    with pytest.raises(FileFormatError, match="damaged"):
        plot_folder(altered)


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json"])
def test_a_missing_file_is_said(altered: Path, name: str):
    (altered / name).unlink()
    with pytest.raises(RunFolderError, match=name):
        plot_folder(altered)


def test_a_missing_run_is_said(tmp_path: Path):
    with pytest.raises(RunFolderError, match="nowhere"):
        plot_folder(tmp_path / "nowhere")


def test_an_output_that_cannot_be_written_leaves_nothing(altered: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"folder\.png"):
        plot_folder(altered, tmp_path / "no" / "such" / "folder.png")
    with pytest.raises(ConfigError, match="it is a folder"):
        plot_folder(altered, altered)


def test_a_disk_that_cannot_be_written_is_one_sentence(
    altered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("poise.runs.curve.write_bytes", refuse)
    assert main(["plot", str(altered)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "learning_curve.png cannot be written: Read-only file system" in said[0]


def test_a_row_without_an_end_is_not_read_whole(altered: Path):
    with (altered / "metrics.jsonl").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileFormatError, match="does not end"):
        plot_folder(altered)


def test_a_pipe_in_the_place_of_the_metrics_holds_nobody_up(altered: Path):
    (altered / "metrics.jsonl").unlink()
    os.mkfifo(altered / "metrics.jsonl")
    with pytest.raises(RunFolderError, match="not a regular file"):
        plot_folder(altered)


def test_a_name_is_no_formula(altered: Path):
    path = altered / "config.json"
    content = json.loads(path.read_text())
    content["settings"]["environment"] = "$\\badcommand{$"
    path.write_text(json.dumps(content))
    assert plot_folder(altered).read_bytes().startswith(PNG)


def test_what_is_read(tmp_path: Path):
    rows = [
        ROW,
        {"kind": "update", "update": 1},
        {"kind": "evaluation", "steps": 20, "selection": {"mean": 7.5}},
        {**ROW, "steps": 30, "return": 5.0, "moving_average": 3.02},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {key: list(value) for key, value in read_episodes(tmp_path / "metrics.jsonl").items()}
    assert found == {
        "steps": [10, 30],
        "returns": [3.0, 5.0],
        "moving_average": [3.0, 3.02],
        "evaluated_steps": [20],
        "evaluated_means": [7.5],
    }
