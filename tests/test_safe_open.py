"""Files that someone else may have created: nothing hangs, no other file is overwritten."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from poise.errors import FileFormatError
from poise.safe_open import open_to_change, open_to_read, read_bytes

Open = Callable[[Path], object]


@pytest.mark.parametrize(
    "open_it",
    [
        open_to_read,
        open_to_change,
        lambda path: open_to_change(path, create=True),
        lambda path: read_bytes(path, 10),
    ],
)
def test_a_pipe_a_folder_and_a_device_are_refused(open_it: Open, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", Path("/dev/zero")):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            open_it(path)


def test_a_file_to_read_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", 7) == b"content"


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("target", ["file", "nowhere"])
def test_a_file_to_change_may_not_be_a_link(target: str, create: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="it is a symbolic link"):
        open_to_change(tmp_path / "link", create=create)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_to_change_is_not_truncated(tmp_path: Path) -> None:
    with open_to_change(tmp_path / "file", create=True) as file:
        file.write(b"content")
    with open_to_change(tmp_path / "file", create=True) as file:
        assert file.read() == b"content"
    with pytest.raises(FileNotFoundError):
        open_to_change(tmp_path / "other")


def test_more_than_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(FileFormatError, match="file is too large: it has more than 6 bytes"):
        read_bytes(tmp_path / "file", 6)
    with (tmp_path / "file").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileFormatError, match="too large"):
        read_bytes(tmp_path / "file", 1 << 30)
