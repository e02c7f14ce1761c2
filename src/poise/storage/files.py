"""Writing and reading files so that no partially written file is ever found.

Files are written under a temporary name in the same folder, then renamed over the old one.
"""

import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poise.errors import FileFormatError, RunFolderError
from poise.safe_open import open_to_change, open_to_read, read_bytes

__all__ = [
    "create_run_folder",
    "is_locked",
    "json_number",
    "lock_folder",
    "passing_folder",
    "read_json",
    "remove_temporary_files",
    "require_changeable",
    "write_bytes",
    "write_json",
]

MAX_JSON_BYTES = 1 << 24
"""Thousands of times the size of settings and summary."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it is either complete, or as it was before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Left by a dead process with the same id, or a link, which mode "x" does not follow.
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporary_files(folder: Path) -> None:
    """Remove partially written files of a killed process; call it only with the folder locked."""
    for place in (folder, folder / "checkpoints"):
        for path in place.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented for human readers."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunFolderError: the file is missing or cannot be read.
        FileFormatError: it is not a JSON object, or is too large.
    """
    try:
        content = read_bytes(path, MAX_JSON_BYTES)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(parsed, dict):
        raise FileFormatError(f"{path} is damaged: it holds no JSON object")
    return parsed


def json_number(value: object) -> float | None:
    """Return a JSON value as a finite number; None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process (flock; the system unlocks it when the process dies).

    Raises:
        RunFolderError: another process is training in it, or it cannot be locked.
    """
    path = folder / ".lock"
    try:
        file = open_to_change(path, create=True)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFolderError(f"another process is training in {folder}") from error
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process is training in a run's folder."""
    try:
        with open_to_read(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # There is no lock file, or it cannot be opened or locked.
        return False
    return False


def require_changeable(*paths: Path) -> None:
    """Check that files can be written, before anything is changed.

    Raises:
        RunFolderError: one is not writable, is a link, or is not a regular file.
    """
    for path in paths:
        try:
            open_to_change(path).close()
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def passing_folder() -> Iterator[Path]:
    """Make a temporary folder for a run that keeps no files; it is removed on exit.

    Raises:
        RunFolderError: it cannot be made.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="poise-"))
    except OSError as error:
        raise RunFolderError(
            f"no folder for temporary files can be made: {error.strerror or error}; set TMPDIR "
            "to another folder"
        ) from error
    try:
        yield folder.absolute()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_run_folder(folder: Path) -> None:
    """Make the folder of a new run.

    Raises:
        RunFolderError: it exists and is not empty, or cannot be made.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunFolderError(
                f"the run folder {folder} exists and is not empty; nothing was overwritten: "
                "choose another --run-dir, or remove it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".poise"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise RunFolderError(f"the run folder {folder} cannot be written: {reason}") from error
