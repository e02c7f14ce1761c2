"""The learning curve: a PNG from any valid run, and a one-sentence error for damaged files."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from poise.cli import main
from poise.errors import ConfigError, FileFormatError, RunFolderError
from poise.reports.curve import draw_curve, read_episodes
from poise.reports.curve_data import Marks, Verified
from poise.reports.plot_process import Plotter
from poise.reports.plot_run import Draw, plot_folder

from ..small import copy, rows, summary

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
    assert drawn[f"random play: {baseline:.1f}".removesuffix(".0")] == baseline
    assert 15 < baseline < 30


def test_the_reported_score_is_drawn_in(altered: Path):
    drawn: list[Marks] = []

    def draw(metrics: Path, output: Path, marks: Marks) -> None:
        drawn.append(marks)

    score = summary(altered)["evaluation"]
    evaluated = [row["version"] for row in rows(altered, "evaluation")]
    plot_folder(altered, draw=draw)
    (verified,) = [marks.verified for marks in drawn]
    assert verified is not None
    assert verified[:3] == (score["mean"], score["low"], score["high"])
    assert verified.version in evaluated
    # A score of one episode has no interval; a run that was killed has no score.
    plot_folder(altered, summary={"evaluation": {"mean": 3.0, "low": None}}, draw=draw)
    assert drawn[-1].verified == Verified(3.0, None, None, verified.version)
    (altered / "best.safetensors").write_bytes(b"damaged")
    plot_folder(altered, draw=draw)
    assert drawn[-1].verified == verified._replace(version=None)
    (altered / "summary.json").unlink()
    plot_folder(altered, draw=draw)
    assert (drawn[-1].verified, drawn[-1].baseline) == (None, None)


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("curve.png", PNG),
        ("curve.PNG", PNG),
        ("curve.svg", b"<?xml"),
        ("curve.pdf", b"%PDF"),
        ("curve.png.svg", b"<?xml"),
    ],
)
def test_the_suffix_says_the_format(altered: Path, tmp_path: Path, name: str, begin: bytes):
    path = tmp_path / name
    assert main(["plot", str(altered), "--output", str(path)]) == 0
    assert path.read_bytes().startswith(begin)
    if begin == b"<?xml":
        assert b"<svg" in path.read_bytes()


@pytest.mark.parametrize("name", ["curve.bmp", "curve", "curve.", ".png", "curve.svgz"])
def test_another_suffix_is_one_sentence_and_draws_nothing(
    altered: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["plot", str(altered), "--output", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert ".png, .svg or .pdf" in said[0]
    assert not (tmp_path / name).exists()


@pytest.mark.slow
def test_a_process_of_its_own_draws_the_same(altered: Path, tmp_path: Path):
    def drawn(path: Path, draw: Draw) -> bytes:
        return plot_folder(altered, path, draw=draw).read_bytes()

    with Plotter() as plotter:
        process = plotter.process
        elsewhere = drawn(tmp_path / "elsewhere.png", plotter)
    assert process is not None
    assert process.returncode == 0
    assert elsewhere == drawn(tmp_path / "here.png", draw_curve)


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
        '{"kind": "evaluation", "steps": 1, "selection": {"mean": 1}, "version": "a"}',
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

    monkeypatch.setattr("poise.reports.curve.write_bytes", refuse)
    assert main(["plot", str(altered)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "learning_curve.png cannot be written: Read-only file system" in said[0]


def test_a_row_without_an_end_is_not_read_whole(altered: Path):
    with (altered / "metrics.jsonl").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileFormatError, match="too long"):
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
    content = [
        ROW,
        {"kind": "update", "update": 1},
        {"kind": "evaluation", "steps": 20, "selection": {"mean": 7.5}},
        {"kind": "evaluation", "steps": 25, "selection": {"mean": 8.5}, "version": 4},
        {**ROW, "steps": 30, "return": 5.0, "moving_average": 3.02},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    found = {key: list(value) for key, value in read_episodes(path)._asdict().items()}
    assert found == {
        "steps": [10, 30],
        "returns": [3.0, 5.0],
        "evaluated_steps": [20, 25],
        "evaluated_means": [7.5, 8.5],
        "evaluated_versions": [-1, 4],
    }
