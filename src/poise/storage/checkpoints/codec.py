"""A checkpoint as bytes: safetensors with JSON metadata, format version 1; reading runs no code.

The run's settings determine the shape of every tensor and the maximum size of a file, so no file
can make the reader allocate arbitrary amounts of memory.
"""

import hashlib
import json
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from poise.agent.policy_file import MAX_HEADER_BYTES, read_metadata
from poise.errors import FileFormatError
from poise.learning.best_policy import BestPolicyState
from poise.learning.journal import RECORD_SIZE
from poise.learning.run_state import RunState, WorkerRecord
from poise.maths.statistics import Moments
from poise.storage.checkpoints.validation import (
    MAX_CHECKSUM,
    MAX_GENERATION,
    MAX_VERSION,
    Offsets,
    episode_statistics_from_json,
    evaluation_result_from_json,
    evaluation_result_to_json,
    offsets_from_json,
    optional_number,
    whole,
)
from poise.trajectory import Snapshot
from poise.validation import shown

__all__ = [
    "Checkpoint",
    "Offsets",
    "Template",
    "checkpoint_from_bytes",
    "checkpoint_to_bytes",
    "size_limit",
]

FORMAT_VERSION = 1
METADATA_KEY = "poise-checkpoint"


class Checkpoint(NamedTuple):
    """A run's state, and the sizes of the run's files at that time."""

    run_state: RunState
    offsets: Offsets


class Template(NamedTuple):
    """The structure of a run's arrays.

    Attributes:
        snapshot: the snapshot at version 0.
        optimizer_state: the optimizer's initial state.
        worker_state: a worker's state; ``()`` if it is not available.
        moments: the initial moments; None if nothing is normalised.
        workers: number of workers.
    """

    snapshot: Snapshot
    optimizer_state: Any
    worker_state: Any
    moments: Moments | None
    workers: int


def size_limit(template: Template) -> int:
    """Return the maximum size of a run's checkpoint in bytes: all workers on different versions."""
    every_worker = template.workers * _nbytes((template.snapshot, template.worker_state))
    once = _nbytes((template.snapshot, template.optimizer_state, template.moments))
    best = _nbytes((template.snapshot.parameters, template.snapshot.target_parameters))
    return MAX_HEADER_BYTES + every_worker + once + best


def checkpoint_to_bytes(checkpoint: Checkpoint) -> bytes:
    """Encode a checkpoint."""
    run_state = checkpoint.run_state
    tensors: dict[str, np.ndarray] = {"parameters": np.asarray(run_state.parameters)}
    for number, leaf in enumerate(jax.tree.leaves(run_state.optimizer_state)):
        tensors[f"optimizer/{number}"] = np.asarray(leaf)
    if np.size(run_state.target_parameters):
        tensors["target_parameters"] = np.asarray(run_state.target_parameters)
    if run_state.moments is not None:
        for name, leaf in run_state.moments._asdict().items():
            tensors[f"moments/{name}"] = np.asarray(leaf, np.float64)
    worker_records = []
    for worker, worker_record in sorted(run_state.worker_records.items()):
        _put_snapshot(tensors, worker_record.snapshot)
        leaves = jax.tree.leaves(worker_record.worker_state)
        for number, leaf in enumerate(leaves):
            tensors[f"worker/{worker}/{number}"] = np.asarray(leaf)
        version = int(worker_record.snapshot.version)
        worker_records.append(
            [worker, worker_record.generation, version, worker_record.worker_state is not None]
        )
    best_policy = run_state.best_policy
    if best_policy.best is not None:
        _put_snapshot(tensors, best_policy.best)
    tensors = {name: np.asarray(one, order="C") for name, one in tensors.items()}
    metadata = {
        "format_version": FORMAT_VERSION,
        "version": run_state.version,
        "steps": run_state.steps,
        "bad_gradients": run_state.bad_gradients,
        "evaluated_at": best_policy.evaluated_at,
        "evaluation_interval": best_policy.interval,
        "verifications": best_policy.verifications,
        "evaluations": best_policy.evaluations,
        "verify_at": best_policy.verify_at,
        "improved_at": best_policy.improved_at,
        "best_training_mean": best_policy.best_training_mean,
        "last_worker": run_state.last_worker,
        "tally": list(run_state.episode_statistics),
        "best": None if best_policy.best is None else int(best_policy.best.version),
        "best_verdict": evaluation_result_to_json(best_policy.result),
        "seats": worker_records,
        "incarnations": sorted(run_state.generations.items()),
        "lost": list(run_state.lost),
        "journal_records": run_state.journal_records,
        "journal_checksum": run_state.journal_checksum,
        "offsets": list(checkpoint.offsets),
    }
    metadata["sha256"] = content_hash(tensors, metadata)
    return save(tensors, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def checkpoint_from_bytes(content: bytes, source: str, template: Template) -> Checkpoint:
    """Decode a checkpoint.

    Raises:
        FileFormatError: it is torn, damaged, of another format version, does not fit the run, or
            has numbers that no run can have.
    """
    metadata = read_metadata(content, source, METADATA_KEY, "a checkpoint of poise")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise FileFormatError(
            f"{source} has checkpoint format version {shown(version)}, but this poise reads "
            f"{FORMAT_VERSION}"
        )
    try:
        tensors = load(content)
        if content_hash(tensors, metadata) != metadata["sha256"]:
            raise ValueError("its content is not what was saved")
        return _decode(_Arrays(tensors, template), metadata, template)
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


def content_hash(tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> str:
    """Return the SHA-256 of all arrays, and of all metadata but the hash itself."""
    rest = {name: value for name, value in metadata.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.asarray(tensors[name], order="C").tobytes())
    return digest.hexdigest()


class _Arrays:
    """The tensors of a file, each checked against its expected shape and dtype."""

    def __init__(self, tensors: dict[str, np.ndarray], template: Template) -> None:
        self._tensors = tensors
        self._template = template

    def tensor(self, name: str, like: Any) -> np.ndarray:
        found = self._tensors[name]
        expected = np.asarray(like)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ValueError(f"{name} is {found.dtype}{found.shape}, not {expected.dtype}")
        return found

    def tree(self, name: str, like: Any) -> Any:
        leaves, structure = jax.tree.flatten(like)
        found = [self.tensor(f"{name}/{number}", leaf) for number, leaf in enumerate(leaves)]
        if f"{name}/{len(leaves)}" in self._tensors:
            # The first arrays fit, but there are more: the state of another optimizer.
            raise ValueError(f"{name} has more than {len(leaves)} arrays")
        return jax.tree.unflatten(structure, found)

    def snapshot(self, version: int) -> Snapshot:
        name, like = f"snapshot/{version}", self._template.snapshot
        parameters = self.tensor(f"{name}/parameters", like.parameters)
        statistics = self.tree(f"{name}/statistics", like.statistics)
        targets = self.targets(f"{name}/target_parameters")
        return Snapshot(np.int32(version), parameters, statistics, targets)

    def targets(self, name: str) -> Any:
        like = self._template.snapshot.target_parameters
        return self.tensor(name, like) if np.size(like) else ()

    def moments(self) -> Moments | None:
        if self._template.moments is None:
            return None
        like = self._template.moments._asdict()
        return Moments(**{name: self.tensor(f"moments/{name}", one) for name, one in like.items()})


def _decode(arrays: _Arrays, metadata: dict[str, Any], template: Template) -> Checkpoint:
    version = whole(metadata["version"], "the version", MAX_VERSION)
    steps = whole(metadata["steps"], "the number of steps")
    records = whole(metadata["journal_records"], "the number of records")
    last = metadata["last_worker"]
    generations: dict[int, int] = {}
    for worker, latest in metadata["incarnations"]:
        _check_worker(worker, template, generations)
        generations[worker] = whole(latest, "a generation", MAX_GENERATION)
    worker_records: dict[int, WorkerRecord] = {}
    for worker, generation, held, has_deposit in metadata["seats"]:
        _check_worker(worker, template, worker_records)
        if generations.get(worker) != whole(generation, "a generation", MAX_GENERATION):
            raise ValueError(f"worker {worker} is there in a generation that is not its latest")
        worker_state = None
        if has_deposit:
            if not jax.tree.leaves(template.worker_state):
                raise ValueError("a worker's state, which this run cannot have")
            worker_state = arrays.tree(f"worker/{worker}", template.worker_state)
        snapshot = arrays.snapshot(whole(held, "a worker's version", version))
        worker_records[worker] = WorkerRecord(generation, snapshot, worker_state)
    lost: dict[int, int] = {}
    # Version 0.1.0 and earlier ones did not record lost workers.
    for worker in metadata.get("lost", []):
        _check_worker(worker, template, lost)
        lost[worker] = worker
    if lost.keys() & worker_records.keys():
        raise ValueError("a worker is both active and lost")
    run_state = RunState(
        version=version,
        steps=steps,
        bad_gradients=whole(metadata["bad_gradients"], "the number of bad gradients"),
        last_worker=None if last is None else whole(last, "last_worker", template.workers - 1),
        episode_statistics=episode_statistics_from_json(metadata["tally"]),
        parameters=arrays.tensor("parameters", template.snapshot.parameters),
        optimizer_state=arrays.tree("optimizer", template.optimizer_state),
        moments=arrays.moments(),
        target_parameters=arrays.targets("target_parameters"),
        best_policy=_best_policy(arrays, metadata, version, steps),
        worker_records=worker_records,
        generations=generations,
        lost=tuple(lost),
        journal_records=records,
        journal_checksum=whole(metadata["journal_checksum"], "a checksum", MAX_CHECKSUM),
    )
    offsets = offsets_from_json(metadata["offsets"], steps)
    whole(offsets.journal_bytes, "journal_bytes", least=RECORD_SIZE * records + 1)
    if run_state.episode_statistics.episodes and not offsets.metrics_bytes:
        raise ValueError("it counts episodes, but its metrics are empty")
    return Checkpoint(run_state, offsets)


def _best_policy(
    arrays: _Arrays, metadata: dict[str, Any], version: int, steps: int
) -> BestPolicyState:
    best, result = metadata["best"], evaluation_result_from_json(metadata["best_verdict"])
    if (best is None) is not (result is None):
        raise ValueError("a best policy without a result, or a result without one")
    return BestPolicyState(
        evaluated_at=whole(metadata["evaluated_at"], "evaluated_at", steps),
        interval=whole(metadata["evaluation_interval"], "evaluation_interval", least=1),
        verifications=whole(metadata["verifications"], "verifications"),
        best=None if best is None else arrays.snapshot(whole(best, "the best version", version)),
        result=result,
        evaluations=whole(metadata["evaluations"], "evaluations"),
        verify_at=whole(metadata["verify_at"], "verify_at"),
        improved_at=whole(metadata["improved_at"], "improved_at", steps),
        best_training_mean=optional_number(metadata["best_training_mean"], "a mean"),
    )


def _check_worker(worker: Any, template: Template, known: dict[int, Any]) -> None:
    if whole(worker, "a worker", template.workers - 1) in known:
        raise ValueError(f"worker {worker} is there twice")


def _put_snapshot(tensors: dict[str, np.ndarray], snapshot: Snapshot) -> None:
    name = f"snapshot/{int(snapshot.version)}"
    tensors[f"{name}/parameters"] = np.asarray(snapshot.parameters)
    for number, leaf in enumerate(snapshot.statistics):
        tensors[f"{name}/statistics/{number}"] = np.asarray(leaf)
    if np.size(snapshot.target_parameters):
        tensors[f"{name}/target_parameters"] = np.asarray(snapshot.target_parameters)


def _nbytes(tree: Any) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))
