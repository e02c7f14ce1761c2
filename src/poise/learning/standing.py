"""What a run had come to after so many records, as its journal tells it.

A checkpoint claims the same things; where the two disagree, the journal is another one.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from poise.errors import FileFormatError
from poise.learning.journal import RECORD_SIZE, JournalReader, Kind

__all__ = ["Standing", "standing"]


class Standing(NamedTuple):
    """The owner's counters, and who was there.

    Attributes:
        journal_bytes: length of the journal up to there.
        checksum: of the last record.
        version: contributions accepted.
        bad_gradients: contributions rejected.
        steps: environment steps so far.
        last_worker: who contributed last, None if nobody has.
        seated: the incarnation of each worker that is there.
        incarnations: the latest of every worker that ever joined.
    """

    journal_bytes: int
    checksum: int
    version: int
    bad_gradients: int
    steps: int
    last_worker: int | None
    seated: dict[int, int]
    incarnations: dict[int, int]


def standing(path: Path, records: int) -> Standing:
    """Read the first so many records of a journal.

    Raises:
        FileFormatError: the file is no journal, or is not whole that far.
        OSError: it cannot be read.
    """
    found = Standing(0, 0, 0, 0, 0, None, {}, {})
    read = 0
    with JournalReader(path) as reader:
        for rows in reader.rows(records):
            found = _after(found, rows)
            read += len(rows)
        if read < records:
            what = reader.damage or f"it has no more than {read:,}"
            raise FileFormatError(f"it should have {records:,} records, but {what}")
        return found._replace(journal_bytes=reader.header_size + RECORD_SIZE * records)


def _after(before: Standing, rows: np.ndarray) -> Standing:
    """What more records make of it."""
    contributions = rows[rows["kind"] == Kind.CONTRIBUTION]
    accepted = int(np.count_nonzero(contributions["detail"]))
    seated, incarnations = dict(before.seated), dict(before.incarnations)
    for row in rows[(rows["kind"] == Kind.JOIN) | (rows["kind"] == Kind.LEAVE)]:
        worker = int(row["worker"])
        if row["kind"] == Kind.JOIN:
            seated[worker] = incarnations[worker] = int(row["incarnation"])
        else:
            seated.pop(worker, None)
    after = before._replace(
        checksum=int(rows["checksum"][-1]),
        version=before.version + accepted,
        bad_gradients=before.bad_gradients + len(contributions) - accepted,
        seated=seated,
        incarnations=incarnations,
    )
    if not len(contributions):
        return after
    last = contributions[-1]
    return after._replace(steps=int(last["value"]), last_worker=int(last["worker"]))
