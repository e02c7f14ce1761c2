"""The checkpoints of a run: written atomically, the newest few kept, and found again.

One is taken only if the run's journal and metrics are those that it was written with, up to where
it was written; otherwise it is passed over, with a warning, for the one before.
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
    """The newest checkpoint of a run that can be used; None if it has none at all.

    Those that are torn, damaged or of another journal are passed over with a warning.

    Raises:
        RunFolderError: there are checkpoints, but none that can be used.
    """
    passed_over: list[str] = []
    for path in _files(folder):
        try:
            checkpoint = checkpoint_from_bytes(
                read_bytes(path, size_limit(template)), str(path), template
            )
            if path.name != _name(checkpoint):
                raise FileFormatError(f"{path} is damaged: it is that of {_name(checkpoint)}")
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
    """Remove what is newer than a checkpoint that the run goes on from.

    It was passed over, and belongs to what is done again: it must neither come back, nor use up
    one of the few that are kept.
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
        RunFolderError: nobody can say which there are.
    """
    place = folder / FOLDER
    if place.is_symlink():
        raise RunFolderError(f"{place} is a link, which is not followed: put the folder there")
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFolderError(f"{place} cannot be read: {error.strerror}") from error
    # What begins with a dot is a temporary file of a writer.
    ours = [name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]
    return [place / name for name in sorted(ours, reverse=True)]


def _require_same_files(folder: Path, path: Path, checkpoint: Checkpoint) -> None:
    """Hold a checkpoint against the files that it was written with.

    Raises:
        FileFormatError: they are shorter, or others.
        OSError: they cannot be read.
    """
    run_state, offsets = checkpoint
    metrics = folder / "metrics.jsonl"
    with open_to_read(metrics) as file:
        if os.fstat(file.fileno()).st_size < offsets.metrics_bytes:
            raise FileFormatError(f"the metrics are shorter than {path} says")
        file.seek(max(0, offsets.metrics_bytes - 1))
        if offsets.metrics_bytes and file.read(1) != b"\n":
            raise FileFormatError(f"the metrics are not those of {path}: no row ends where it says")
    try:
        there = journal_summary(folder / "journal", run_state.journal_records)
    except FileFormatError as error:
        raise FileFormatError(f"the journal is not that of {path}: {error}") from error
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
                f"the journal is not that of {path}: the checkpoint says {name}={claimed[name]}, "
                f"the journal {value}"
            )
