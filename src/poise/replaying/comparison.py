"""Comparison of a replay's parameters with the files that its run left."""

from pathlib import Path

import numpy as np

from poise.agent.policy_file import (
    MAX_POLICY_BYTES,
    parameter_hash,
    policy_from_bytes,
    read_metadata,
)
from poise.errors import FileFormatError, ReplayMismatchError, RunFolderError
from poise.learning.parameter_server import ParameterServer
from poise.safe_open import read_bytes
from poise.trajectory import Snapshot

__all__ = ["compare_parameters", "has_final"]


def has_final(folder: Path) -> bool:
    """Whether a run got far enough to write its final parameters."""
    return (folder / "final.safetensors").exists()


def compare_parameters(folder: Path, server: ParameterServer, has_stopped: bool) -> tuple[str, ...]:
    """Compare final and best parameters with the run's files.

    A run that was killed, or whose disk was full, may have left no such files.

    Args:
        folder: the run's folder.
        server: the replay's server, after the last record.
        has_stopped: the journal says that the run ended.

    Returns:
        The names of the files that were compared.

    Raises:
        ReplayMismatchError: parameters differ, or the files do not match the journal.
        RunFolderError: a file is missing that the run had written, or cannot be read.
    """
    if has_final(folder) and not has_stopped:
        raise ReplayMismatchError(
            "the journal differs: it does not record the run's end, but the run had ended: it left "
            f"{folder / 'final.safetensors'}"
        )
    # The summary is written last: if it exists, everything else was written.
    complete = has_stopped and (folder / "summary.json").exists()
    compared = []
    expectations = [("final", server.snapshot())]
    if server.best is not None:
        expectations.append(("best", server.best))
    for name, snapshot in expectations:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            if complete:
                raise RunFolderError(f"{path} is missing")
        elif _agree(path, name, snapshot, complete):
            compared.append(path.name)
    return tuple(compared)


def _agree(path: Path, name: str, snapshot: Snapshot, complete: bool) -> bool:
    """Compare one file; False if it is an older version from a run that ended too early."""
    try:
        content = read_bytes(path, MAX_POLICY_BYTES)
        policy = policy_from_bytes(content, str(path), check_hash=False)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    except FileFormatError as error:
        raise ReplayMismatchError(f"the {name} parameters differ: {error}") from error
    if name == "best" and not complete:
        extra = read_metadata(content, str(path), "poise", "a policy file of poise").get("extra")
        if not isinstance(extra, dict) or extra.get("version") != int(snapshot.version):
            return False
    replayed = np.asarray(snapshot.parameters)
    if policy.parameters.tobytes() != replayed.tobytes():
        raise ReplayMismatchError(
            f"the {name} parameters differ: {path} has SHA-256 "
            f"{parameter_hash(policy.parameters)}, the replay {parameter_hash(replayed)}"
        )
    return True
