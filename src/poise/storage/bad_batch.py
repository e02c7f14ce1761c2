"""Batches whose gradient was not finite, saved for `poise inspect`."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from poise.agent.agent import Agent
from poise.errors import FileFormatError, RunFolderError
from poise.learning.events import Rejected
from poise.safe_open import read_bytes
from poise.storage.files import write_bytes
from poise.trajectory import Gradient

__all__ = ["ArrayReport", "broken_tensors", "inspect_batch", "save_bad_batch"]

NAMED = 3
"""Maximum number of broken arrays named in a warning."""
FILE_NAME = "bad_batch.safetensors"
MAX_BATCH_BYTES = 1 << 30
"""Size of a gradient and one rollout: enough for hundreds of rollouts of Atari images."""


class ArrayReport(NamedTuple):
    """Summary of one array of a saved batch."""

    name: str
    shape: tuple[int, ...]
    not_finite: int
    minimum: float
    maximum: float


def save_bad_batch(folder: Path, event: Rejected, agent: Agent) -> Path:
    """Save the gradient (by tensor) and, if it was sent, the trajectory."""
    worker_update = event.worker_update
    tensors: dict[str, np.ndarray] = {"losses": np.asarray(worker_update.metrics)}
    evidence, payload = worker_update.evidence, worker_update.payload
    if isinstance(payload, Gradient):
        for name, part in agent.layout.split(np.asarray(payload.vector)).items():
            tensors[f"gradient{name}"] = part
    else:
        evidence = payload
    if evidence is not None:
        leaves = jax.tree_util.tree_flatten_with_path(evidence)[0]
        for path, leaf in leaves:
            tensors[f"trajectory{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    metadata = {"worker": str(event.worker), "version": str(worker_update.version)}
    content = {name: np.asarray(one, order="C") for name, one in tensors.items()}
    place = folder / FILE_NAME
    write_bytes(place, save(content, metadata))
    return place


def broken_tensors(path: Path) -> str:
    """Return the names of the first arrays with values that are not finite, separated by commas."""
    names = [one.name for one in inspect_batch(path) if one.not_finite]
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def inspect_batch(run: str | Path) -> list[ArrayReport]:
    """Report on the arrays of a saved batch, those with values that are not finite first.

    Raises:
        RunFolderError: there is no saved batch.
        FileFormatError: it is damaged.
    """
    path = Path(run)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        tensors: dict[str, Any] = load(read_bytes(path, MAX_BATCH_BYTES))
        odd = [name for name, one in tensors.items() if one.dtype.kind not in "biuf"]
        if odd:
            raise ValueError(f"{odd[0]} holds no real numbers")
    except OSError as error:
        raise RunFolderError(f"there is no saved batch at {path}: {error.strerror}") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    reports = [_report(name, np.asarray(one)) for name, one in tensors.items()]
    return sorted(reports, key=lambda one: (-one.not_finite, one.name))


def _report(name: str, array: np.ndarray) -> ArrayReport:
    numbers = array.astype(np.float64)
    finite = np.isfinite(numbers)
    return ArrayReport(
        name,
        array.shape,
        int(np.sum(~finite)),
        float(np.min(numbers[finite], initial=np.inf)),
        float(np.max(numbers[finite], initial=-np.inf)),
    )
