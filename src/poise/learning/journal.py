"""The journal: what the server did, in order, as one small record per event.

The server's decisions are a function of the order of events, so this file determines the run: a
replay that passes the same inputs to the same server in the same order arrives at the same
parameters, bit for bit.

A journal is a magic line, a line of JSON (the header), then records of 28 bytes. Each record has a
checksum that continues the previous one, so that changed, missing or moved records are detected.
"""

import collections
import enum
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from poise.errors import FileFormatError
from poise.safe_open import open_to_read

__all__ = [
    "Journal",
    "JournalFile",
    "JournalReader",
    "Record",
    "RecordKind",
    "Records",
    "StopReason",
    "UpdateDetail",
    "header_bytes",
    "read_journal",
]

MAGIC = b"poise journal 1\n"
_BODY = struct.Struct("<BBHIQQ")
_CHECKSUM = struct.Struct("<I")
RECORD_SIZE = _BODY.size + _CHECKSUM.size
MAX_HEADER_BYTES = 1 << 20
RECORDS_AT_ONCE = 4096
"""Number of records read at a time; they are checked before more are read."""
_ROW = np.dtype(
    [
        ("kind", "u1"),
        ("detail", "u1"),
        ("worker", "<u2"),
        ("generation", "<u4"),
        ("version", "<u8"),
        ("value", "<u8"),
        ("checksum", "<u4"),
    ]
)


class RecordKind(enum.IntEnum):
    """The kind of an event."""

    JOIN = 1
    UPDATE = 2
    LEAVE = 3
    EVALUATION = 4
    STOP = 5
    RESUME = 6
    CHANGE = 7


class UpdateDetail(enum.IntEnum):
    """What happened to an update."""

    REJECTED = 0
    APPLIED = 1
    WAITS = 2
    """The update waits until its batch is complete; the batch's own record is a CHANGE."""


_KINDS = frozenset(int(kind) for kind in RecordKind)


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
    FLAT = 9
    CALLBACK = 10


class Record(NamedTuple):
    """One event.

    Attributes:
        kind: what happened.
        detail: for an update, an `UpdateDetail`; for an evaluation, 1 if solved; for a stop, its
            `StopReason`; for a leave, 1 if it is for good.
        worker: the worker's number; 0 if no worker is involved.
        generation: how often the worker has been started before.
        version: for an update, the version that the worker acted with; for a join, a leave or an
            evaluation, the snapshot's version; else the current version.
        value: for an evaluation, the bits of the mean return (float64); for an update, a change, a
            resume or a stop, environment steps so far; else 0.
    """

    kind: RecordKind
    detail: int
    worker: int
    generation: int
    version: int
    value: int


class Journal:
    """Collects records in memory; the run writes them to disk.

    Args:
        length: number of records already in the journal.
        checksum: checksum of the last of these records.
    """

    def __init__(self, length: int = 0, checksum: int = 0) -> None:
        self.checksum = checksum
        """Checksum of the last record."""
        # Workers' threads append, the main thread drains; with a deque both are atomic.
        self._pending: collections.deque[bytes] = collections.deque()
        self.length = length
        """Number of records so far."""

    def append(self, record: Record) -> None:
        """Add a record."""
        body = _BODY.pack(*record)
        self.checksum = zlib.crc32(body, self.checksum)
        self._pending.append(body + _CHECKSUM.pack(self.checksum))
        self.length += 1

    def drain(self) -> bytes:
        """Remove and return the records that have not been written yet, as bytes."""
        return b"".join(self._pending.popleft() for _ in range(len(self._pending)))


def header_bytes(header: dict[str, Any]) -> bytes:
    """Return the first two lines of a journal."""
    checksum = zlib.crc32(json.dumps(header, sort_keys=True).encode())
    line = json.dumps({"checksum": checksum, "header": header}, sort_keys=True)
    return MAGIC + line.encode() + b"\n"


class Records(Sequence[Record]):
    """The records of a journal, kept in memory as the bytes of the file.

    Args:
        content: the bytes of complete records.
    """

    def __init__(self, content: bytes | bytearray) -> None:
        self._content = content

    def __len__(self) -> int:
        return len(self._content) // RECORD_SIZE

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        kind, *rest = _BODY.unpack_from(self._content, range(len(self))[index] * RECORD_SIZE)
        return Record(RecordKind(kind), *rest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class JournalFile(NamedTuple):
    """A journal read from disk.

    Attributes:
        header: the JSON object in the journal's second line.
        records: the records before the first damaged one.
        damage: what is wrong after these records; None if nothing is.
        torn: whether the only damage is an incomplete last record, as after a kill.
    """

    header: dict[str, Any]
    records: Sequence[Record]
    damage: str | None
    torn: bool = False


class JournalReader:
    """Reads a journal piece by piece, up to the first damaged record; a context manager.

    Raises:
        FileFormatError: the file is not a journal, or its header is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_to_read(path)
        self.damage: str | None = None
        """What is wrong after the records that `rows` returned; None if nothing is."""
        self.torn = False
        """Whether the only damage is an incomplete last record."""
        try:
            self.header = self._read_header(path)
        except BaseException:
            self._file.close()
            raise
        self.header_size = self._file.tell()
        """Number of bytes before the first record."""

    def __enter__(self) -> "JournalReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def rows(self, limit: int | None = None) -> Iterator[np.ndarray]:
        """Iterate over the records in structured arrays: the fields of `Record` and ``checksum``.

        Args:
            limit: number of records to read at most; None for all.
        """
        checksum = number = 0
        while self.damage is None and (limit is None or number < limit):
            wanted = RECORDS_AT_ONCE if limit is None else min(RECORDS_AT_ONCE, limit - number)
            content = self._file.read(wanted * RECORD_SIZE)
            rows = np.frombuffer(content, _ROW, len(content) // RECORD_SIZE)
            checksums, kinds, valid = rows["checksum"].tolist(), rows["kind"].tolist(), 0
            for valid, (stored, kind) in enumerate(zip(checksums, kinds, strict=True), 1):
                begin = (valid - 1) * RECORD_SIZE
                checksum = zlib.crc32(content[begin : begin + _BODY.size], checksum)
                if stored != checksum or kind not in _KINDS:
                    what = "was altered" if stored != checksum else "is of an unknown kind"
                    self.damage = f"record {number + valid} {what}"
                    valid -= 1
                    break
            number += valid
            if self.damage is None and len(content) % RECORD_SIZE:
                self.damage, self.torn = f"record {number + 1} is cut short", True
            if valid:
                yield rows[:valid]
            if len(content) < wanted * RECORD_SIZE:
                return

    def _read_header(self, path: Path) -> dict[str, Any]:
        if self._file.readline(len(MAGIC)) != MAGIC:
            raise FileFormatError(f"{path} is not a journal of this format version")
        line = self._file.readline(MAX_HEADER_BYTES)
        try:
            header = json.loads(line)["header"]
            if isinstance(header, dict) and header_bytes(header) == MAGIC + line:
                return header
        except (ValueError, RecursionError, KeyError, TypeError):
            pass
        raise FileFormatError(f"the header of {path} is damaged")


def read_journal(path: Path) -> JournalFile:
    """Read a journal up to the first damaged record.

    Raises:
        FileFormatError: the file is not a journal, or its header is damaged.
        OSError: the file cannot be read.
    """
    content = bytearray()
    with JournalReader(path) as reader:
        for rows in reader.rows():
            content += rows.tobytes()
        return JournalFile(reader.header, Records(content), reader.damage, reader.torn)
