"""The list of runs: what is read from each run, and the table."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.cli import main
from poise.errors import RunFolderError
from poise.reports.run_list import RunSummary, list_runs, table
from poise.storage.files import lock_folder

from ..small import SMALL, rows, summary

NOON = 1_700_000_000


@pytest.fixture
def place(serial_run: Path, tmp_path: Path) -> Path:
    """A folder that contains a run, and another run in a subfolder."""
    shutil.copytree(serial_run, tmp_path / "runs" / "first")
    shutil.copytree(serial_run, tmp_path / "runs" / "below" / "it" / "second")
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes" / "config.json").write_text('{"of": "something else"}')
    for number, name in enumerate(("first", "below/it/second")):
        path = tmp_path / "runs" / name / "summary.json"
        os.utime(path, (NOON + number, NOON + number))
    return tmp_path / "runs"


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def only(folder: Path) -> RunSummary:
    [run], problems = list_runs(folder)
    assert problems == []
    return run


def test_what_a_run_came_to(place: Path) -> None:
    runs, problems = list_runs(place)
    assert problems == []
    assert [one.folder for one in runs] == [place / "first", place / "below" / "it" / "second"]
    told = summary(place / "first")
    assert runs[0] == RunSummary(
        place / "first",
        "CartPole-v1",
        SMALL["seed"],
        "solved" if told["solved"] else "not solved",
        told["evaluation"]["mean"],
        told["evaluation"]["standard_error"],
        475.0,
        told["steps"],
        NOON,
    )


def test_a_run_s_own_folder_can_be_given(place: Path) -> None:
    assert only(place / "first").folder == place / "first"


@pytest.mark.parametrize(
    ("stopped", "target", "status"),
    [
        ("max_steps", 475.0, "not solved"),
        ("max_steps", None, "no target"),
        ("interrupted", 475.0, "stopped"),
        ("terminated", None, "stopped"),
        ("failed", 475.0, "failed"),
        ("not_finite", None, "failed"),
    ],
)
def test_how_a_run_ended(place: Path, stopped: str, target: float | None, status: str) -> None:
    folder = place / "first"
    edit(folder / "summary.json", solved=False, stopped=stopped, target_return=target)
    resolved = json.loads((folder / "config.json").read_text())["resolved"]
    edit(folder / "config.json", resolved={**resolved, "target_return": target})
    assert only(folder).status == status
    edit(folder / "summary.json", solved=True, solved_at_steps=7, stopped="solved")
    assert only(folder).status == "solved"


def test_a_run_that_goes_on_and_one_that_was_killed(place: Path) -> None:
    """Without a summary, steps come from the last complete row, and there is no score."""
    folder = place / "first"
    (folder / "summary.json").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "update", "ste')
    steps = max(row["steps"] for row in rows_of(folder))
    with lock_folder(folder):
        assert only(folder)[3:8] == ("running", None, None, 475.0, steps)
    assert only(folder)[3:8] == ("cut off", None, None, 475.0, steps)
    (folder / "metrics.jsonl").unlink()
    assert only(folder).steps == 0


def rows_of(folder: Path) -> list[dict[str, Any]]:
    whole = folder / "metrics.jsonl"
    text = whole.read_text()
    whole.write_text(text[: text.rindex("\n") + 1])
    found = rows(folder)
    whole.write_text(text)
    return found


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": {}, "resolved": {}}', "\0" * 99])
def test_a_damaged_run_is_named_and_the_others_are_listed(
    place: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "first" / "config.json").write_text(content)
    runs, [problem] = list_runs(place)
    assert [one.folder.name for one in runs] == ["second"]
    assert str(place / "first" / "config.json") in problem
    assert main(["runs", str(place)]) == 0
    said = capsys.readouterr()
    assert "second" in said.out
    assert said.err == f"poise: warning: {problem}\n"


def test_links_and_deep_folders_are_not_followed(place: Path) -> None:
    (place / "link").symlink_to(place / "first")
    (place / "loop").symlink_to(place)
    deep = place / "1" / "2" / "3" / "4"
    shutil.copytree(place / "first", deep)
    assert len(list_runs(place)[0]) == 2


def test_a_folder_without_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match="there is no folder runs: poise train"):
        list_runs(Path("runs"))
    (tmp_path / "runs").mkdir()
    assert main(["runs"]) == 2
    assert capsys.readouterr() == ("", "poise: there is no run in runs\n")


def run(name: str, **changes: Any) -> RunSummary:
    made = RunSummary(
        Path("runs") / name, "CartPole-v1", 0, "solved", 487.31, 1.234, 475.0, 20_752, NOON
    )
    return made._replace(**changes)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    __import__("time").tzset()


@pytest.mark.usefixtures("utc")
def test_the_table() -> None:
    runs = [
        run("first"),
        run("lake", environment="FrozenLake-v1", status="not solved", seed=12, target=0.7)._replace(
            mean=0.6996, standard_error=0.0142, steps=2_800_000
        ),
        run("cliff", status="no target", mean=-13.0, standard_error=0.0, target=None),
        run("now", status="running", mean=None, standard_error=None, steps=950),
    ]
    assert table(runs, Path("runs"), None) == [
        "run    environment    seed  solved   score            steps  when",
        "first  CartPole-v1       0  yes      487.3 ± 1.2      20.8k  11-14 22:13",
        "lake   FrozenLake-v1    12  no       0.6996 ± 0.0142   2.8M  11-14 22:13",
        "cliff  CartPole-v1       0  -        -13 ± 0          20.8k  11-14 22:13",
        "now    CartPole-v1       0  running  -                  950  11-14 22:13",
    ]
    older = run("older", when=NOON - 400 * 86_400)
    assert table([older, run("first")], Path("runs"), None)[1].endswith("  2022-10-10 22:13")


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize("width", [80, 90, 120])
def test_names_are_shortened_to_fit(width: int) -> None:
    names = [f"a-very-long-name-of-a-run-{'x' * 60}-seed{number}" for number in range(3)]
    rows = table([run(name, environment="m:" + "E" * 70) for name in names], Path("runs"), width)
    assert max(map(len, rows)) == width
    for number, row in enumerate(rows[1:]):
        assert row.startswith("a-very")
        assert f"seed{number}  " in row


def test_a_stranger_s_name_does_not_steer_the_terminal() -> None:
    rows = table([run("x", environment="\x1b[2J\nEvil")], Path("runs"), None)
    assert "?[2J?Evil" in rows[1]


def test_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(place), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(one["folder"]).name for one in found] == ["first", "second"]
    assert found[0]["when"] == "2023-11-14T22:13:20+00:00"
    assert found[0]["mean"] == poise.reports.run_list.list_runs(place)[0][0].mean
