"""The journal: what the owner did, in order, one small record an event.

The owner's decisions are a function of the order of events, so this file determines the run: a
replay that feeds the same owner in the same order arrives at the same parameters, bit for bit.

A journal is a line of magic, a line of JSON (the header), then records of 28 bytes, each with a
checksum that continues the one before, so that a record cannot be changed, dropped or moved
unnoticed.
"""

import collections
import enum
import json
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from poise.errors import FileFormatError

__all__ = [
    "Journal",
    "JournalFile",
    "Kind",
    "Record",
    "StopReason",
    "header_bytes",
    "read_journal",
]

MAGIC = b"poise journal 1\n"
_BODY = struct.Struct("<BBHIQQ")
_CHECKSUM = struct.Struct("<I")
RECORD_SIZE = _BODY.size + _CHECKSUM.size
MAX_HEADER_BYTES = 1 << 20


class Kind(enum.IntEnum):
    """What happened."""

    JOIN = 1
    CONTRIBUTION = 2
    LEAVE = 3
    EVALUATION = 4
    STOP = 5
    RESUME = 6


class StopReason(enum.IntEnum):
    """Why a run ended."""

    SOLVED = 1
    MAX_STEPS = 2
    MAX_EPISODES = 3
    MAX_SECONDS = 4
    INTERRUPTED = 5
    TERMINATED = 6
    FAILED = 7
    NOT_FINITE = 8


class Record(NamedTuple):
    """One event.

    Attributes:
        kind: what happened.
        detail: contribution: 1 if accepted; evaluation: 1 if solved; stop: the reason.
        worker: the worker's number, 0 where there is none.
        incarnation: how often the worker has been started before.
        version: contribution: acted with; join and evaluation: the snapshot's; stop: the last.
        value: contribution, stop: environment steps so far; evaluation: bits of the mean return.
    """

    kind: Kind
    detail: int
    worker: int
    incarnation: int
    version: int
    value: int


class Journal:
    """Collects records in memory; whoever runs the owner writes them to disk.

    Args:
        length: records that are there already.
        checksum: of the last of them.
    """

    def __init__(self, length: int = 0, checksum: int = 0) -> None:
        self.checksum = checksum
        """Checksum of the last record."""
        # Appended by workers' threads, drained by the main one: deques make both atomic.
        self._pending: collections.deque[bytes] = collections.deque()
        self.length = length
        """Records so far."""

    def append(self, record: Record) -> None:
        """Add a record."""
        body = _BODY.pack(*record)
        self.checksum = zlib.crc32(body, self.checksum)
        self._pending.append(body + _CHECKSUM.pack(self.checksum))
        self.length += 1

    def drain(self) -> bytes:
        """Take the bytes that have not been written yet."""
        return b"".join(self._pending.popleft() for _ in range(len(self._pending)))


class JournalFile(NamedTuple):
    """A journal read back.

    Attributes:
        header: the JSON object of its second line.
        records: the records up to the first damaged one.
        damage: what is wrong behind them, or None.
    """

    header: dict[str, Any]
    records: list[Record]
    damage: str | None


def header_bytes(header: dict[str, Any]) -> bytes:
    """The first two lines of a journal."""
    checksum = zlib.crc32(json.dumps(header, sort_keys=True).encode())
    line = json.dumps({"checksum": checksum, "header": header}, sort_keys=True)
    return MAGIC + line.encode() + b"\n"


def read_journal(path: Path) -> JournalFile:
    """Read a journal as far as it is whole.

    Raises:
        FileFormatError: the file is no journal, or its header is damaged.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.readline(len(MAGIC)) != MAGIC:
            raise FileFormatError(f"{path} is not a journal of this format version")
        line = file.readline(MAX_HEADER_BYTES)
        content = file.read()
    try:
        header = json.loads(line)["header"]
        whole = isinstance(header, dict) and header_bytes(header) == MAGIC + line
    except (ValueError, RecursionError, KeyError, TypeError):
        whole = False
    if not whole:
        raise FileFormatError(f"the header of {path} is damaged")
    records: list[Record] = []
    checksum = 0
    for offset in range(0, len(content), RECORD_SIZE):
        row = content[offset : offset + RECORD_SIZE]
        number = len(records) + 1
        if len(row) < RECORD_SIZE:
            return JournalFile(header, records, f"record {number} is cut short")
        body = row[: _BODY.size]
        checksum = zlib.crc32(body, checksum)
        if _CHECKSUM.unpack(row[_BODY.size :])[0] != checksum:
            return JournalFile(header, records, f"record {number} was altered")
        kind, *rest = _BODY.unpack(body)
        if kind not in Kind.__members__.values():
            return JournalFile(header, records, f"record {number} is of an unknown kind")
        records.append(Record(Kind(kind), *rest))
    return JournalFile(header, records, None)
