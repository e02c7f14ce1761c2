"""The checkpoints of a run: written atomically, the newest few kept, and found again.

A checkpoint is used only if the run's journal and metrics, up to the recorded sizes, are those that
it was written with; otherwise it is passed over, with a warning, for the one before.
"""

import os
from pathlib import Path

from poise.errors import FileFormatError, RunFolderError
from poise.learning.journal_summary import journal_summary
from poise.safe_open import open_to_read, read_bytes
from poise.storage.checkpoints.codec import (
    Checkpoint,
    Offsets,
    Template,
    checkpoint_from_bytes,
    checkpoint_to_bytes,
    size_limit,
)
from poise.storage.files import write_bytes
from poise.user_warnings import warn_caller

__all__ = [
    "Checkpoint",
    "Offsets",
    "Template",
    "newest_checkpoint",
    "remove_newer",
    "write_checkpoint",
]

FOLDER = "checkpoints"
SUFFIX = ".safetensors"


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write a checkpoint below a run's folder, and remove all but the newest ``keep``."""
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    write_bytes(place / _name(checkpoint), checkpoint_to_bytes(checkpoint))
    for old in _files(folder)[keep:]:
        old.unlink(missing_ok=True)


def newest_checkpoint(folder: Path, template: Template) -> Checkpoint | None:
    """Return the newest usable checkpoint of a run; None if the run has no checkpoints.

    Those that are torn, damaged, or do not match the journal are passed over with a warning.

    Raises:
        RunFolderError: there are checkpoints, but none is usable.
    """
    passed_over: list[str] = []
    for path in _files(folder):
        try:
            checkpoint = checkpoint_from_bytes(
                read_bytes(path, size_limit(template)), str(path), template
            )
            if path.name != _name(checkpoint):
                raise FileFormatError(f"{path} is damaged: it belongs to {_name(checkpoint)}")
            _require_same_files(folder, path, checkpoint)
        except FileFormatError as error:
            passed_over.append(str(error))
        except OSError as error:
            passed_over.append(f"{error.filename or path} cannot be read: {error.strerror}")
        else:
            for reason in passed_over:
                warn_caller(f"passed over: {reason}")
            return checkpoint
    if passed_over:
        raise RunFolderError(
            f"none of the checkpoints of {folder} can be used, and nothing was changed "
            f"({len(passed_over)} found); the newest: {passed_over[0]}"
        )
    return None


def remove_newer(folder: Path, checkpoint: Checkpoint) -> None:
    """Remove all checkpoints that are newer than the one that the run resumes from.

    They were passed over, and their part of the run is repeated: they must neither be used later,
    nor count among the few that are kept.
    """
    for path in _files(folder):
        if path.name > _name(checkpoint):
            path.unlink(missing_ok=True)


def _name(checkpoint: Checkpoint) -> str:
    run_state = checkpoint.run_state
    return f"{run_state.steps:015d}-{run_state.journal_records:012d}{SUFFIX}"


def _files(folder: Path) -> list[Path]:
    """Checkpoint files, newest first.

    Raises:
        RunFolderError: the folder cannot be listed.
    """
    place = folder / FOLDER
    if place.is_symlink():
        raise RunFolderError(
            f"{place} is a symbolic link, which is not followed: put the folder there"
        )
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFolderError(f"{place} cannot be read: {error.strerror}") from error
    # Names that begin with a dot are temporary files.
    ours = [name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]
    return [place / name for name in sorted(ours, reverse=True)]


def _require_same_files(folder: Path, path: Path, checkpoint: Checkpoint) -> None:
    """Check that a checkpoint matches the run's files.

    Raises:
        FileFormatError: the files are shorter, or have another content.
        OSError: the files cannot be read.
    """
    run_state, offsets = checkpoint
    metrics = folder / "metrics.jsonl"
    with open_to_read(metrics) as file:
        if os.fstat(file.fileno()).st_size < offsets.metrics_bytes:
            raise FileFormatError(f"the metrics are shorter than {path} says")
        file.seek(max(0, offsets.metrics_bytes - 1))
        if offsets.metrics_bytes and file.read(1) != b"\n":
            raise FileFormatError(f"the metrics do not match {path}: no row ends at its offset")
    try:
        there = journal_summary(folder / "journal", run_state.journal_records)
    except FileFormatError as error:
        raise FileFormatError(f"the journal does not match {path}: {error}") from error
    claimed = {
        "journal_bytes": offsets.journal_bytes,
        "checksum": run_state.journal_checksum,
        "version": run_state.version,
        "bad_gradients": run_state.bad_gradients,
        "steps": run_state.steps,
        "last_worker": run_state.last_worker,
        "seated": {
            worker: worker_record.generation
            for worker, worker_record in run_state.worker_records.items()
        },
        "generations": run_state.generations,
        "lost": run_state.lost,
    }
    for name, value in there._asdict().items():
        if claimed[name] != value:
            raise FileFormatError(
                f"the journal does not match {path}: the checkpoint says {name}={claimed[name]}, "
                f"the journal {value}"
            )
