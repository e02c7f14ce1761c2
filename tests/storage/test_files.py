"""Files are either complete, or as they were before; folders are either new, or refused."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from poise.config import TrainConfig
from poise.errors import FileFormatError, RunFolderError
from poise.storage.files import create_run_folder, lock_folder, read_json, write_bytes, write_json
from poise.storage.run_folder import default_run_folder, load, load_config, load_summary, remove_run

from ..small import copy


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWriting:
    def test_a_file_is_written_and_overwritten(self, tmp_path: Path):
        for content in (b"one", b"", b"three"):
            write_bytes(tmp_path / "file", content)
            assert (tmp_path / "file").read_bytes() == content
        assert names(tmp_path) == ["file"]

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
    @pytest.mark.parametrize("at", ["fsync", "replace"])
    def test_a_failure_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: str
    ):
        write_bytes(tmp_path / "file", b"old")

        def fail(*arguments: Any) -> None:
            # At this point, everything is written, but under another name.
            assert len(names(tmp_path)) == 2
            raise error

        monkeypatch.setattr(os if at == "fsync" else Path, at, fail)
        with pytest.raises(type(error)):
            write_bytes(tmp_path / "file", b"new")
        monkeypatch.undo()
        assert (tmp_path / "file").read_bytes() == b"old"
        assert names(tmp_path) == ["file"]

    def test_values_that_json_lacks_are_refused_and_nothing_is_written(self, tmp_path: Path):
        write_json(tmp_path / "file", {"a": 1})
        for bad in (float("nan"), float("inf"), object()):
            with pytest.raises((ValueError, TypeError)):
                write_json(tmp_path / "file", {"a": bad})
        assert read_json(tmp_path / "file") == {"a": 1}
        assert names(tmp_path) == ["file"]

    def test_a_missing_folder_is_an_error(self, tmp_path: Path):
        with pytest.raises(OSError, match="No such file"):
            write_bytes(tmp_path / "no" / "file", b"")


class TestReading:
    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"1", b"null", b"\xff\xfe", b'{"a": ' + b"[" * 100_000, b"{}{}"],
        ids=["empty", "cut", "list", "number", "null", "bytes", "deep", "two"],
    )
    def test_a_file_without_a_json_object_is_damaged(self, tmp_path: Path, content: bytes):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(FileFormatError, match="file is damaged"):
            read_json(tmp_path / "file")

    def test_a_missing_file_is_reported(self, tmp_path: Path):
        with pytest.raises(RunFolderError, match="file cannot be read"):
            read_json(tmp_path / "file")
        with pytest.raises(RunFolderError, match="cannot be read"):
            read_json(tmp_path)

    def test_a_huge_file_is_refused(self, tmp_path: Path):
        with (tmp_path / "file").open("wb") as file:
            file.truncate(1 << 30)
        with pytest.raises(FileFormatError, match="too large"):
            read_json(tmp_path / "file")


class TestRunFolder:
    def test_new_ones_are_made_with_their_parents(self, tmp_path: Path):
        folder = tmp_path / "a" / "b ü \N{SNOWMAN}"
        create_run_folder(folder)
        assert names(folder) == []
        create_run_folder(folder)

    @pytest.mark.parametrize("content", ["file", ".hidden", "folder"])
    def test_a_folder_that_is_not_empty_is_refused_and_not_changed(
        self, tmp_path: Path, content: str
    ):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / content).mkdir() if content == "folder" else (folder / content).write_text("x")
        with pytest.raises(RunFolderError, match="not empty") as caught:
            create_run_folder(folder)
        assert "run_dir" in str(caught.value)
        assert names(folder) == [content]

    def test_a_file_in_its_place_is_refused(self, tmp_path: Path):
        (tmp_path / "run").write_text("mine")
        for path in (tmp_path / "run", tmp_path / "run" / "below"):
            with pytest.raises(RunFolderError):
                create_run_folder(path)
        assert (tmp_path / "run").read_text() == "mine"

    def test_a_folder_that_cannot_be_made_is_refused(self):
        with pytest.raises(RunFolderError, match="cannot be written"):
            create_run_folder(Path("/proc/no/such/place"))
        with pytest.raises(RunFolderError, match="cannot be written"):
            create_run_folder(Path("x" * 300))

    def test_one_process_at_a_time(self, tmp_path: Path):
        with (
            lock_folder(tmp_path),
            pytest.raises(RunFolderError, match="another process"),
            lock_folder(tmp_path),
        ):
            pass
        with lock_folder(tmp_path):
            pass

    def test_the_default_does_not_exist_yet(self, tmp_path: Path):
        seen = set()
        for _ in range(3):
            folder = default_run_folder(TrainConfig("ALE/Pong-v5", seed=7))
            assert folder.parent == Path("runs")
            assert "Pong-v5" in folder.name
            assert "seed7" in folder.name
            folder.mkdir(parents=True)
            seen.add(folder)
        assert len(seen) == 3


class TestLoading:
    @pytest.mark.parametrize("which", ["best", "final"])
    def test_a_policy_by_folder_and_by_file(self, serial_run: Path, which: Any):
        policy = load(serial_run, which)
        assert policy.environment.name == "CartPole-v1"
        again = load(serial_run / f"{which}.safetensors")
        assert again.parameters.tobytes() == policy.parameters.tobytes()

    def test_a_missing_file_is_reported(self, tmp_path: Path):
        for ask in (load, load_config, load_summary, remove_run):
            with pytest.raises(RunFolderError, match="nowhere"):
                ask(tmp_path / "nowhere")
        with pytest.raises(RunFolderError, match=r"best\.safetensors"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"format": 2}, "format version 2"),
            ({"format": None}, "format version None"),
            ({"settings": []}, "damaged"),
            ({"resolved": None}, "damaged"),
            ({"settings": {"workers": 0}}, "workers is 0"),
            ({"settings": {"workers": "2"}}, "workers is '2'"),
            ({"settings": {"a_setting_of_tomorrow": 1}}, "a_setting_of_tomorrow"),
        ],
    )
    def test_damaged_settings_are_reported(
        self, serial_run: Path, tmp_path: Path, change: dict[str, Any], words: str
    ):
        path = copy(serial_run, tmp_path) / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(FileFormatError, match=words) as caught:
            load_config(path.parent)
        assert str(path) in str(caught.value)

    def test_a_run_is_removed_but_other_files_are_kept(self, serial_run: Path, tmp_path: Path):
        folder = copy(serial_run, tmp_path)
        (folder / "notes.txt").write_text("mine")
        remove_run(folder)
        assert names(folder) == ["notes.txt"]

    def test_a_folder_that_is_no_run_is_not_removed(self, tmp_path: Path):
        (tmp_path / "journal").write_text("my diary")
        with pytest.raises(RunFolderError):
            remove_run(tmp_path)
        assert names(tmp_path) == ["journal"]
