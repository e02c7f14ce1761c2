"""An invented run: checkpoints after any number of updates, and the files that belong to them."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from poise.learning.best_policy import BestPolicyState
from poise.learning.episode_statistics import EpisodeStatisticsState
from poise.learning.evaluation_result import EvaluationResult, Score
from poise.learning.journal import RECORD_SIZE, Journal, Record, RecordKind, header_bytes
from poise.learning.run_state import RunState, WorkerRecord
from poise.maths.statistics import Moments
from poise.storage.checkpoints.store import Checkpoint, Offsets, Template, write_checkpoint
from poise.trajectory import Snapshot

SIZE, STATISTICS = 7, 3
SCORE = Score(9.5, 0.25, 9.0, 10.0, 8.0, 11.0, 20, True, 1, 190)
HEADER = header_bytes({"versions": {"jax": "0"}, "processor": "x"})
STEPS = 10
"""Environment steps of one update."""
ROW = b'{"kind": "update"}\n'
BEFORE = [
    Record(RecordKind.JOIN, 0, 0, 0, 0, 0),
    Record(RecordKind.JOIN, 0, 1, 0, 0, 0),
    Record(RecordKind.LEAVE, 0, 1, 0, 0, 0),
    Record(RecordKind.JOIN, 0, 1, 2, 0, 0),
    Record(RecordKind.EVALUATION, 0, 0, 0, 0, 0),
    Record(RecordKind.UPDATE, 0, 0, 0, 0, 0),
    Record(RecordKind.UPDATE, 0, 0, 0, 0, 0),
]
"""The journal before the first update: worker 1 was lost, two gradients were rejected."""


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def statistics(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return array(seed, STATISTICS), array(seed + 1, STATISTICS)


def snapshot(version: int) -> Snapshot:
    return Snapshot(np.int32(version), array(version, SIZE), statistics(version))


def optimizer(seed: int) -> Any:
    return (np.int32(seed), {"mu": array(seed, SIZE), "nu": array(seed + 1, SIZE)}, ())


def worker_state(seed: int) -> Any:
    key = np.random.default_rng(seed).integers(0, 2**32, 2, np.uint32)
    return {"key": key, "cycle": np.int32(seed), "ended": np.array([True, False]), "none": ()}


def moments(seed: int) -> Moments:
    generator = np.random.default_rng(seed)
    return Moments(
        np.asarray(50.0), generator.standard_normal(STATISTICS), generator.random(STATISTICS)
    )


@functools.cache
def journal_after(updates: int, lineage: int = 0) -> tuple[bytes, int]:
    """Return the journal's file after this many updates, and its last checksum.

    Args:
        updates: number of updates, all of worker 1.
        lineage: runs with other lineages have other records.
    """
    journal = Journal()
    for record in BEFORE:
        journal.append(record)
    for version in range(updates):
        seen = max(0, version - lineage)
        journal.append(Record(RecordKind.UPDATE, 1, 1, 2, seen, STEPS * (version + 1)))
    return HEADER + journal.drain(), journal.checksum


def checkpoint_after(updates: int, lineage: int = 0) -> Checkpoint:
    """Make a checkpoint with a value in every field."""
    records, steps = len(BEFORE) + updates, STEPS * updates
    run_state = RunState(
        version=updates,
        steps=steps,
        bad_gradients=2,
        last_worker=1 if updates else 0,
        episode_statistics=EpisodeStatisticsState(3, 12.5, (9.0, 10.0, 0.1), True, (9, 10, 1)),
        parameters=array(updates, SIZE),
        optimizer_state=optimizer(5),
        moments=moments(6),
        target_parameters=(),
        best_policy=BestPolicyState(
            evaluated_at=steps * 4 // 5,
            interval=128,
            verifications=3,
            best=snapshot(updates * 4 // 5),
            result=EvaluationResult(
                SCORE, SCORE._replace(mean=9.25), True, SCORE._replace(mean=9.5)
            ),
            evaluations=5,
            verify_at=steps + 7,
            improved_at=steps * 3 // 5,
            best_training_mean=8.5,
        ),
        worker_records={
            0: WorkerRecord(0, snapshot(max(0, updates - 1)), worker_state(7)),
            1: WorkerRecord(2, snapshot(updates), None),
        },
        generations={0: 0, 1: 2},
        lost=(),
        journal_records=records,
        journal_checksum=journal_after(updates, lineage)[1],
    )
    offsets = Offsets(
        journal_bytes=len(HEADER) + RECORD_SIZE * records,
        metrics_bytes=len(ROW) * (updates + 1),
        training_seconds=1.5,
        wall_seconds=2.5,
        restarts=1,
        solved_at_steps=steps,
        training_solved_seconds=0.75,
        training_solved_steps=steps * 3 // 4,
    )
    return Checkpoint(run_state, offsets)


TEMPLATE = Template(snapshot(0), optimizer(0), worker_state(0), moments(0), workers=2)


def write_files(folder: Path, updates: int, lineage: int = 0) -> None:
    """Write journal and metrics as they are after this many updates."""
    (folder / "journal").write_bytes(journal_after(updates, lineage)[0])
    (folder / "metrics.jsonl").write_bytes(ROW * (updates + 1))


def write(folder: Path, updates: int, keep: int = 3, lineage: int = 0) -> None:
    """Write a checkpoint as it is after this many updates."""
    write_checkpoint(folder, checkpoint_after(updates, lineage), keep)
