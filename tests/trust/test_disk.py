"""Full or read-only disks, two trainings in one folder, clocks that jump."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.cli import main
from poise.errors import RunFolderError, RunWriteError
from poise.learning.events import Updated
from poise.reports.run_list import list_runs
from poise.storage.files import lock_folder

from .runs import TINY, Interruption, checkpoints, files_of, listing, require_equal, train

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    yield from mounted(tmp_path, "size=1m")


def mounted(tmp_path: Path, options: str) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("disks may not be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Fill the disk, except for this many bytes."""
    filling = place / "filling"
    with filling.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, filling.stat().st_size - leave))
    return filling


class FillsUp:
    """A callback that fills the disk after some updates."""

    def __init__(self, place: Path, after: int) -> None:
        self.place, self.after = place, after
        self.filling: Path | None = None

    def __call__(self, when: float, event: Any) -> None:
        if isinstance(event, Updated) and event.update >= self.after and self.filling is None:
            self.filling = fill(self.place)


LONG = {"max_steps": 3000, "evaluation_interval": 1000, "record_every": 1}
"""Long enough that the metrics do not fit into the rest of a page."""


@pytest.mark.parametrize("launcher", ["serial", pytest.param("threads", marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_during_a_run(
    launcher: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Nothing is written before the end of training; then every write fails.
    monkeypatch.setattr("poise.training.training_run.PUMP_INTERVAL", 1000.0)
    folder = small_disk / "run"
    filler = FillsUp(small_disk, after=100)
    with pytest.raises(RunWriteError, match="No space left on device") as caught:
        train(folder, **LONG, launcher=launcher, callbacks=[filler])
    assert caught.value.exit_code == 1
    assert str(folder) in str(caught.value)
    assert "poise resume" in str(caught.value)
    assert filler.filling is not None
    filler.filling.unlink()
    assert "final.safetensors" not in poise.replay(folder).compared
    result = poise.resume(folder)
    assert result.summary["steps"] >= 3000
    poise.replay(folder)
    if launcher == "serial":
        whole = tmp_path / "whole"
        train(whole, **LONG)
        require_equal(files_of(folder), files_of(whole))


def test_a_disk_that_fills_up_after_a_checkpoint(
    small_disk: Path, interruption: Interruption, tmp_path: Path
) -> None:
    folder, whole = small_disk / "run", tmp_path / "whole"
    train(whole, **LONG)
    interruption.after(worker_updates=50)
    train(folder, **LONG)
    interruption.after()
    kept = listing(folder / "checkpoints")
    filling = fill(small_disk)
    with pytest.raises(RunWriteError, match="No space left on device"):
        poise.resume(folder)
    # The existing files are intact: the checkpoint, and the files up to its offsets.
    assert listing(folder / "checkpoints") == kept
    assert not list(folder.rglob("*.tmp"))
    filling.unlink()
    poise.resume(folder)
    require_equal(files_of(folder), files_of(whole))


def test_a_full_disk_at_the_start(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(small_disk)
    command = ["train", "--run-dir", str(small_disk / "run"), "--max-steps=100", "--quiet"]
    assert main(command) in (1, 2)
    assert "No space left on device" in capsys.readouterr().err


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that can become read-only."""
    yield from mounted(tmp_path, "size=4m")


def make_read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def test_a_read_only_folder_is_refused_before_any_work(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_read_only(disk)
    with pytest.raises(RunFolderError, match="cannot be written: Read-only file system"):
        train(disk / "run")
    assert main(["train", "--run-dir", str(disk / "run"), "--max-steps=100"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert list(disk.iterdir()) == []


def test_a_run_on_a_disk_that_has_become_read_only(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = disk / "run"
    train(folder)
    make_read_only(disk)
    # Reading still works; writing reports the problem.
    poise.replay(folder)
    assert poise.load(folder).parameters.size
    with pytest.raises(RunFolderError, match="cannot be written: Read-only file system"):
        poise.resume(folder, max_steps=400)
    for command in (["resume", str(folder), "--max-steps=400"], ["plot", str(folder)]):
        assert main(command) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert "Read-only file system" in said[0]


NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    train(tmp_path / "before")
    forbidden = tmp_path / "forbidden"
    forbidden.mkdir(mode=0o555)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(RunFolderError, match="cannot be written: Permission denied"):
            train(forbidden / "run")
    finally:
        os.seteuid(0)
    assert list(forbidden.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folders_of_others_are_passed_over_where_runs_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "mine")
    train(tmp_path / "theirs" / "run")
    (tmp_path / "theirs").chmod(0o700)
    # The folders above it must be closed to others, too.
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    os.seteuid(NOBODY)
    try:
        found, problems = list_runs(Path())
    finally:
        os.seteuid(0)
    assert [str(one.folder) for one in found] == ["mine"]
    assert problems == []


def test_two_trainings_on_one_folder(tmp_path: Path, interruption: Interruption) -> None:
    folder = tmp_path / "run"
    refused: list[Exception] = []

    def intrude(when: float, event: Any) -> None:
        if refused or not isinstance(event, Updated):
            return
        before = (folder / "config.json").read_bytes()
        for again in (lambda: train(folder), lambda: poise.resume(folder, max_steps=900)):
            try:
                again()
            except RunFolderError as error:
                refused.append(error)
        assert (folder / "config.json").read_bytes() == before

    whole = tmp_path / "whole"
    train(whole)
    train(folder, callbacks=[intrude])
    assert len(refused) == 2
    assert "nothing was overwritten" in str(refused[0])
    assert "another process is training" in str(refused[1])
    require_equal(files_of(folder), files_of(whole))


def test_the_lock_of_a_dead_process_blocks_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder)
    hold = f"""
import os, pathlib, signal
from poise.storage.files import lock_folder
with lock_folder(pathlib.Path({str(folder)!r})):
    print("held", flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunFolderError, match="another process is training"):
            poise.resume(folder, max_steps=400)
        holder.kill()
    with lock_folder(folder):
        pass
    poise.resume(folder, max_steps=400)


class Jumping:
    """A wall clock that jumps by days, back and forth; monotonic time is not affected."""

    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            self.calls += 1
            return 1e9 + 86_400.0 * (-1) ** self.calls * self.calls


def test_a_clock_that_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: Interruption
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    settings = {"checkpoint_every": "1s", "max_seconds": 1000.0}
    train(whole, **settings)
    monkeypatch.setattr(time, "time", Jumping())
    interruption.after(worker_updates=9)
    train(folder, **settings)
    interruption.after()
    poise.resume(folder)
    require_equal(files_of(folder), files_of(whole))
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["training_seconds"] <= summary["wall_seconds"] < 1000
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    times = [json.loads(row)["wall_time"] for row in rows]
    assert all(0 <= one < 1000 for one in times)
    assert len(checkpoints(folder)) <= 3
    assert TINY["max_steps"] <= summary["steps"]
