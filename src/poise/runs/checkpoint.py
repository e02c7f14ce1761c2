"""Checkpoints: a cut through the run as one file, written atomically and checksummed.

safetensors with JSON metadata, format version 1; reading one runs no code. What a tensor must look
like is known from the run's settings, so a file cannot make the reader allocate what it likes.
"""

import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from poise.agent.policy_file import read_metadata
from poise.errors import FileFormatError
from poise.learning.candidates import CandidatesState
from poise.learning.cut import Cut, Seat
from poise.learning.tally import TallyState
from poise.learning.verdict import Score, Verdict
from poise.maths.statistics import Moments
from poise.runs.files import write_bytes
from poise.trajectory import Snapshot

__all__ = ["Checkpoint", "Offsets", "Template", "newest_checkpoint", "write_checkpoint"]

FORMAT_VERSION = 1
FOLDER = "checkpoints"
_KEY = "poise-checkpoint"


class Offsets(NamedTuple):
    """Where the run's files were, and what its clock and judge had counted, at the cut."""

    journal_bytes: int
    metrics_bytes: int
    training_seconds: float
    wall_seconds: float
    restarts: int
    solved_at_steps: int | None
    training_solved_seconds: float | None
    training_solved_steps: int | None


class Checkpoint(NamedTuple):
    """A cut, and where the run's files were."""

    cut: Cut
    offsets: Offsets


class Template(NamedTuple):
    """What the arrays of a run look like.

    Attributes:
        snapshot: version 0 of it.
        optimizer_state: its initial one.
        worker_state: of a worker whose state can be had; ``()`` if it cannot.
        moments: whether observations are normalised.
        workers: how many there are.
    """

    snapshot: Snapshot
    optimizer_state: Any
    worker_state: Any
    moments: Moments | None
    workers: int


def checkpoint_to_bytes(checkpoint: Checkpoint) -> bytes:
    """Encode a checkpoint."""
    cut = checkpoint.cut
    tensors: dict[str, np.ndarray] = {"parameters": np.asarray(cut.parameters)}
    for number, leaf in enumerate(jax.tree.leaves(cut.optimizer_state)):
        tensors[f"optimizer/{number}"] = np.asarray(leaf)
    if cut.moments is not None:
        for name, leaf in cut.moments._asdict().items():
            tensors[f"moments/{name}"] = np.asarray(leaf, np.float64)
    seats = []
    for worker, seat in sorted(cut.seats.items()):
        _put_snapshot(tensors, seat.snapshot)
        leaves = jax.tree.leaves(seat.deposit)
        for number, leaf in enumerate(leaves):
            tensors[f"worker/{worker}/{number}"] = np.asarray(leaf)
        version = int(seat.snapshot.version)
        seats.append([worker, seat.incarnation, version, seat.deposit is not None])
    candidates = cut.candidates
    if candidates.best is not None:
        _put_snapshot(tensors, candidates.best)
    tensors = {name: np.asarray(one, order="C") for name, one in tensors.items()}
    metadata = {
        "format_version": FORMAT_VERSION,
        "version": cut.version,
        "steps": cut.steps,
        "bad_gradients": cut.bad_gradients,
        "evaluated_at": candidates.evaluated_at,
        "evaluation_interval": candidates.interval,
        "verifications": candidates.verifications,
        "last_worker": cut.last_worker,
        "tally": list(cut.tally),
        "best": None if candidates.best is None else int(candidates.best.version),
        "best_verdict": _verdict_to_json(candidates.verdict),
        "seats": seats,
        "incarnations": sorted(cut.incarnations.items()),
        "journal_records": cut.journal_records,
        "journal_checksum": cut.journal_checksum,
        "offsets": list(checkpoint.offsets),
    }
    metadata["sha256"] = _hash(tensors, metadata)
    return save(tensors, {_KEY: json.dumps(metadata, sort_keys=True)})


def checkpoint_from_bytes(content: bytes, source: str, template: Template) -> Checkpoint:
    """Decode a checkpoint.

    Raises:
        FileFormatError: torn, damaged, of another format version, or of another run's shape.
    """
    metadata = read_metadata(content, source, _KEY, "a checkpoint of poise")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise FileFormatError(
            f"{source} has checkpoint format version {metadata.get('format_version')!r}, but this "
            f"poise reads {FORMAT_VERSION}"
        )
    try:
        tensors = load(content)
        if _hash(tensors, metadata) != metadata["sha256"]:
            raise ValueError("its content is not what was saved")
        return _decode(tensors, metadata, template)
    except (
        SafetensorError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
    ) as error:
        raise FileFormatError(f"{source} is damaged: {error}") from error


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write a checkpoint below a run's folder, and remove all but the newest ``keep``."""
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    content = checkpoint_to_bytes(checkpoint)
    cut = checkpoint.cut
    write_bytes(place / f"{cut.steps:015d}-{cut.journal_records:012d}.safetensors", content)
    for old in _files(place)[keep:]:
        old.unlink(missing_ok=True)


def newest_checkpoint(folder: Path, template: Template) -> Checkpoint | None:
    """The newest whole checkpoint of a run; torn or damaged ones are passed over with a warning."""
    for path in _files(folder / FOLDER):
        try:
            checkpoint = checkpoint_from_bytes(path.read_bytes(), str(path), template)
            for name in ("journal", "metrics"):
                there = _size(folder / ("journal" if name == "journal" else "metrics.jsonl"))
                if there < getattr(checkpoint.offsets, f"{name}_bytes"):
                    raise FileFormatError(f"the {name} is shorter than {path} says")
        except (FileFormatError, OSError) as error:
            warnings.warn(f"passed over: {error}", RuntimeWarning, stacklevel=2)
            continue
        return checkpoint
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints, whole or not."""
    for path in _files(folder / FOLDER):
        path.unlink(missing_ok=True)


def _files(place: Path) -> list[Path]:
    """Checkpoint files, newest first."""
    return sorted(place.glob("*.safetensors"), reverse=True) if place.is_dir() else []


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _put_snapshot(tensors: dict[str, np.ndarray], snapshot: Snapshot) -> None:
    name = f"snapshot/{int(snapshot.version)}"
    tensors[f"{name}/parameters"] = np.asarray(snapshot.parameters)
    for number, leaf in enumerate(snapshot.statistics):
        tensors[f"{name}/statistics/{number}"] = np.asarray(leaf)


def _hash(tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> str:
    """Of all arrays, and of all metadata but the hash itself."""
    rest = {name: value for name, value in metadata.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.asarray(tensors[name], order="C").tobytes())
    return digest.hexdigest()


def _decode(
    tensors: dict[str, np.ndarray], metadata: dict[str, Any], template: Template
) -> Checkpoint:
    def tensor(name: str, like: Any) -> np.ndarray:
        found = tensors[name]
        expected = np.asarray(like)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ValueError(f"{name} is {found.dtype}{found.shape}, not {expected.dtype}")
        return found

    def tree(name: str, like: Any) -> Any:
        leaves, structure = jax.tree.flatten(like)
        found = [tensor(f"{name}/{number}", leaf) for number, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, found)

    def snapshot(version: int) -> Snapshot:
        name = f"snapshot/{version}"
        parameters = tensor(f"{name}/parameters", template.snapshot.parameters)
        statistics = tree(f"{name}/statistics", template.snapshot.statistics)
        return Snapshot(np.int32(version), parameters, statistics)

    seats = {}
    for worker, incarnation, version, has_deposit in metadata["seats"]:
        if not 0 <= int(worker) < template.workers:
            raise ValueError(f"worker {worker}")
        deposit = None
        if has_deposit:
            if not jax.tree.leaves(template.worker_state):
                raise ValueError("a worker's state, which this run cannot have")
            deposit = tree(f"worker/{int(worker)}", template.worker_state)
        seats[int(worker)] = Seat(int(incarnation), snapshot(int(version)), deposit)
    moments = None
    if template.moments is not None:
        like = template.moments._asdict()
        moments = Moments(**{name: tensor(f"moments/{name}", one) for name, one in like.items()})
    episodes, average, recent, solved = metadata["tally"]
    best, last = metadata["best"], metadata["last_worker"]
    cut = Cut(
        version=int(metadata["version"]),
        steps=int(metadata["steps"]),
        bad_gradients=int(metadata["bad_gradients"]),
        last_worker=None if last is None else int(last),
        tally=TallyState(
            int(episodes),
            None if average is None else float(average),
            tuple(map(float, recent)),
            bool(solved),
        ),
        parameters=tensor("parameters", template.snapshot.parameters),
        optimizer_state=tree("optimizer", template.optimizer_state),
        moments=moments,
        candidates=CandidatesState(
            evaluated_at=int(metadata["evaluated_at"]),
            interval=int(metadata["evaluation_interval"]),
            verifications=int(metadata["verifications"]),
            best=None if best is None else snapshot(int(best)),
            verdict=_verdict_from_json(metadata["best_verdict"]),
        ),
        seats=seats,
        incarnations={int(one): int(latest) for one, latest in metadata["incarnations"]},
        journal_records=int(metadata["journal_records"]),
        journal_checksum=int(metadata["journal_checksum"]),
    )
    return Checkpoint(cut, _offsets(metadata["offsets"]))


def _offsets(numbers: Any) -> Offsets:
    """Offsets, after a look at each: files are cut there."""
    offsets = Offsets(*numbers)
    counts = (offsets.journal_bytes, offsets.metrics_bytes, offsets.restarts)
    if not all(type(one) is int and one >= 0 for one in counts):
        raise ValueError(f"offsets {numbers}")
    optional = (offsets.solved_at_steps, offsets.training_solved_steps)
    if not all(one is None or type(one) is int for one in optional):
        raise ValueError(f"offsets {numbers}")
    times = (offsets.training_seconds, offsets.wall_seconds, offsets.training_solved_seconds or 0.0)
    if not all(isinstance(one, int | float) and 0 <= one < math.inf for one in times):
        raise ValueError(f"offsets {numbers}")
    return offsets


def _verdict_to_json(verdict: Verdict | None) -> Any:
    if verdict is None:
        return None
    verification = verdict.verification
    return [
        list(verdict.selection),
        None if verification is None else list(verification),
        verdict.solved,
    ]


def _verdict_from_json(content: Any) -> Verdict | None:
    if content is None:
        return None
    selection, verification, solved = content
    fresh = None if verification is None else Score(*verification)
    return Verdict(Score(*selection), fresh, bool(solved))
