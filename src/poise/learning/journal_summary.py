"""The server's counters after a number of records, computed from the journal.

A checkpoint contains the same counters; if they differ, it was made with another journal.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from poise.errors import FileFormatError
from poise.learning.journal import RECORD_SIZE, JournalReader, RecordKind, UpdateDetail

__all__ = ["JournalSummary", "journal_summary"]


class JournalSummary(NamedTuple):
    """The server's counters and its workers, after the records that were read.

    Attributes:
        journal_bytes: length of the journal up to the last of these records.
        checksum: checksum of the last record.
        version: number of changes of the parameters.
        bad_gradients: number of rejected updates.
        steps: environment steps so far.
        last_worker: the worker that sent the last update; None if there was none.
        seated: the generation of each current worker.
        generations: the latest generation of every worker that ever joined.
        lost: workers that are not started again.
    """

    journal_bytes: int
    checksum: int
    version: int
    bad_gradients: int
    steps: int
    last_worker: int | None
    seated: dict[int, int]
    generations: dict[int, int]
    lost: tuple[int, ...]


def journal_summary(path: Path, records: int) -> JournalSummary:
    """Summarise the given number of records from the start of a journal.

    Raises:
        FileFormatError: the file is not a journal, or these records are damaged or missing.
        OSError: the file cannot be read.
    """
    found = JournalSummary(0, 0, 0, 0, 0, None, {}, {}, ())
    read = 0
    with JournalReader(path) as reader:
        for rows in reader.rows(records):
            found = _after(found, rows)
            read += len(rows)
        if read < records:
            what = reader.damage or f"it has only {read:,}"
            raise FileFormatError(f"it should have {records:,} records, but {what}")
        return found._replace(journal_bytes=reader.header_size + RECORD_SIZE * records)


def _after(before: JournalSummary, rows: np.ndarray) -> JournalSummary:
    """Return the summary after some more records."""
    worker_updates = rows[rows["kind"] == RecordKind.UPDATE]
    changes = rows[rows["kind"] == RecordKind.CHANGE]
    rejected = int(np.count_nonzero(worker_updates["detail"] == UpdateDetail.REJECTED))
    applied = int(np.count_nonzero(worker_updates["detail"] == UpdateDetail.APPLIED))
    seated, generations = dict(before.seated), dict(before.generations)
    lost = set(before.lost)
    for row in rows[(rows["kind"] == RecordKind.JOIN) | (rows["kind"] == RecordKind.LEAVE)]:
        worker = int(row["worker"])
        if row["kind"] == RecordKind.JOIN:
            seated[worker] = generations[worker] = int(row["generation"])
            lost.discard(worker)
        else:
            seated.pop(worker, None)
            if row["detail"]:
                lost.add(worker)
    after = before._replace(
        checksum=int(rows["checksum"][-1]),
        version=before.version + applied + len(changes),
        bad_gradients=before.bad_gradients + rejected,
        seated=seated,
        generations=generations,
        lost=tuple(sorted(lost)),
    )
    if len(worker_updates):
        after = after._replace(last_worker=int(worker_updates[-1]["worker"]))
    counted = rows[np.isin(rows["kind"], (RecordKind.UPDATE, RecordKind.CHANGE))]
    return after._replace(steps=int(counted[-1]["value"])) if len(counted) else after
