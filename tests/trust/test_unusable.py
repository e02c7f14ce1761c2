"""Unusable runs: one error line, and none of their files is changed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.cli import main
from poise.errors import FileFormatError, PoiseError, RunFolderError
from poise.learning.journal import RECORD_SIZE, header_bytes, read_journal
from poise.storage.config_digest import sealed
from poise.storage.run_folder import remove_run

from .runs import Interruption, checkpoints, files_of, listing, require_equal, train

pytestmark = pytest.mark.usefixtures("shared_programs")

STOPPED_AFTER = (5, 5, 4)
"""Updates in each process; at the end of each there is a checkpoint, and no other."""


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory, shared_programs: None) -> Path:
    """An interrupted run with three checkpoints."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("poise.training.training_run.PUMP_INTERVAL", 1000.0)
        interruption = Interruption(patch)
        for worker_updates in STOPPED_AFTER:
            interruption.after(worker_updates)
            poise.resume(folder) if folder.exists() else train(folder)
    assert len(checkpoints(folder)) == 3
    return folder


@pytest.fixture
def folder(stopped_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, which the test may alter."""
    shutil.copytree(stopped_run, tmp_path / "run")
    return tmp_path / "run"


def require_refused(folder: Path, said: str) -> None:
    before = listing(folder)
    with pytest.raises(PoiseError, match=said) as caught:
        poise.resume(folder, max_steps=400)
    assert caught.value.exit_code == 2
    assert listing(folder) == before


def each_checkpoint(folder: Path, change: Callable[[bytes], bytes]) -> None:
    for path in checkpoints(folder):
        path.write_bytes(change(path.read_bytes()))


VERSION = b'format_version\\": '
UNREADABLE: dict[str, Callable[[Path], None]] = {
    "of a later version": lambda folder: each_checkpoint(
        folder, lambda content: content.replace(VERSION + b"1", VERSION + b"2")
    ),
    "torn": lambda folder: each_checkpoint(folder, lambda content: content[:-1]),
    "empty": lambda folder: each_checkpoint(folder, lambda content: b""),
    "of another shape": lambda folder: change_settings(folder, hidden_sizes=[5]),
    "ahead of the journal": lambda folder: os.truncate(folder / "journal", first_record(folder)),
    "without a journal": lambda folder: (folder / "journal").unlink(),
    "without metrics": lambda folder: (folder / "metrics.jsonl").unlink(),
    "pipes": lambda folder: [become(path, os.mkfifo) for path in checkpoints(folder)] and None,
}


def change_settings(folder: Path, **settings: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["settings"] |= settings
    (folder / "config.json").write_text(json.dumps(sealed(content)))


def first_record(folder: Path) -> int:
    return len(header_bytes(read_journal(folder / "journal").header))


def become(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_run_with_checkpoints_that_cannot_be_used_is_not_started_over(
    how: str, folder: Path
) -> None:
    UNREADABLE[how](folder)
    require_refused(folder, r"none of the checkpoints of .* nothing was changed \(3 found\)")


def test_a_run_with_unreadable_checkpoints_is_not_started_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, limit: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("poise.storage.checkpoints.store.read_bytes", refuse)
    require_refused(folder, "none of the checkpoints .* cannot be read: Permission denied")


def test_the_command_reports_it_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    UNREADABLE["of a later version"](folder)
    assert main(["resume", str(folder)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "format version 2" in said[0]


def truncate_journal(folder: Path) -> None:
    """As after a power failure: journal and metrics are shorter than the newest checkpoint says."""
    newest = int(checkpoints(folder)[0].stem.split("-")[1])
    os.truncate(folder / "journal", first_record(folder) + RECORD_SIZE * (newest - 1))


def test_a_checkpoint_that_was_passed_over_is_removed(
    folder: Path, interruption: Interruption, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newest, before, oldest = checkpoints(folder)
    truncate_journal(folder)
    monkeypatch.setattr("poise.training.training_run.PUMP_INTERVAL", 1000.0)
    interruption.after(worker_updates=1)
    with pytest.warns(RuntimeWarning, match=f"passed over: the journal .*{newest.name}"):
        poise.resume(folder)
    latest, *rest = checkpoints(folder)
    assert before.name < latest.name < newest.name
    assert rest == [before, oldest]
    interruption.after()
    poise.resume(folder)
    whole = tmp_path / "whole"
    train(whole)
    require_equal(files_of(folder), files_of(whole))


def test_a_checkpoint_is_not_used_with_another_journal(
    folder: Path, interruption: Interruption, tmp_path: Path
) -> None:
    """The run's own journal was replaced by a longer one with other records."""
    interruption.after(sum(STOPPED_AFTER) + 6)
    train(tmp_path / "other", seed=1)
    newest, *older = checkpoints(folder)
    for path in older:
        path.unlink()
    shutil.copy(tmp_path / "other" / "journal", folder / "journal")
    require_refused(folder, f"the journal does not match .*{newest.name}")


LINKED = ["journal", "metrics.jsonl"]


@pytest.mark.parametrize("name", LINKED)
def test_a_file_of_a_run_that_is_a_link_is_not_written_through(
    name: str, folder: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    (folder / name).rename(victim)
    (folder / name).symlink_to(victim)
    content = victim.read_bytes()
    require_refused(folder, f"{name} cannot be written: it is a symbolic link")
    assert victim.read_bytes() == content


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("../victim")])
def test_a_lock_that_is_a_pipe_or_a_link_is_refused(
    make: Callable[[Path], None], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("mine")
    become(folder / ".lock", make)
    with pytest.raises(RunFolderError, match=r"\.lock cannot be written: it is"):
        poise.resume(folder)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_temporary_file_that_is_a_link_is_not_written_through(
    folder: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("config.json", "summary.json", "final.safetensors"):
        (folder / f".{name}.{os.getpid()}.tmp").symlink_to(victim)
    poise.resume(folder)
    assert victim.read_text() == "mine"
    assert not (folder / "config.json").is_symlink()


@pytest.mark.parametrize("name", ["config.json", "best.safetensors", "final.safetensors"])
def test_a_pipe_instead_of_a_file_blocks_nobody(name: str, folder: Path) -> None:
    become(folder / name, os.mkfifo)
    which = "final" if name.startswith("final") else "best"
    ask = poise.resume if name == "config.json" else lambda run: poise.load(run, which)
    with pytest.raises(RunFolderError, match="not a regular file"):
        ask(folder)


def test_a_policy_of_any_size_is_not_read(folder: Path) -> None:
    with (folder / "best.safetensors").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileFormatError, match="too large"):
        poise.load(folder)


def test_a_run_is_removed_without_what_its_links_lead_to(folder: Path, tmp_path: Path) -> None:
    (folder / "checkpoints").rename(tmp_path / "mine")
    (folder / "checkpoints").symlink_to(tmp_path / "mine")
    kept = listing(tmp_path / "mine")
    remove_run(folder)
    assert listing(tmp_path / "mine") == kept


def test_resuming_on_another_machine_warns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.training.provenance.processor_model", lambda: "an abacus")
    with pytest.warns(RuntimeWarning, match=r"elsewhere.* processor was .*, here an abacus"):
        poise.resume(folder)


def test_another_version_of_a_package_warns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.training.provenance.versions", lambda: {"jaxlib": "99"})
    with pytest.warns(RuntimeWarning, match=r"no longer replay.*jaxlib was .*, here it is 99"):
        poise.resume(folder)


def test_a_run_that_cannot_be_replayed_warns_again(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["resolved"]["replayable"] = False
    (folder / "config.json").write_text(json.dumps(sealed(content)))
    with pytest.warns(RuntimeWarning, match="this run cannot be replayed exactly"):
        poise.resume(folder)
    assert json.loads((folder / "config.json").read_text())["resolved"]["replayable"] is False


def test_files_are_on_the_disk_before_the_checkpoint_that_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronise, order = os.fsync, []

    def noted(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        synchronise(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("nobody says here which files are open")
    monkeypatch.setattr(os, "fsync", noted)
    train(tmp_path / "run")
    written = [place for place, name in enumerate(order) if name.endswith("tmp") and "-" in name]
    assert written
    for place in written:
        assert order[place - 2 : place] == ["metrics.jsonl", "journal"]
