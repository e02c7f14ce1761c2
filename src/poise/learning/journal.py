"""The journal: what the server did, in order, one small record an event.

The server's decisions are a function of the order of events, so this file determines the run: a
replay that feeds the same server in the same order arrives at the same parameters, bit for bit.

A journal is a line of magic, a line of JSON (the header), then records of 28 bytes, each with a
checksum that continues the one before, so that a record cannot be changed, dropped or moved
unnoticed.
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
"""Records that are read at a time: what is not whole is noticed before more is read."""
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
    """What happened."""

    JOIN = 1
    UPDATE = 2
    LEAVE = 3
    EVALUATION = 4
    STOP = 5
    RESUME = 6
    CHANGE = 7


class UpdateDetail(enum.IntEnum):
    """What became of an update."""

    REJECTED = 0
    APPLIED = 1
    WAITS = 2
    """Until its batch is complete, whose record is a CHANGE."""


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
        detail: update: 1 if accepted; evaluation: 1 if solved; stop: the reason.
        worker: the worker's number, 0 where there is none.
        generation: how often the worker has been started before.
        version: update: acted with; join and evaluation: the snapshot's; stop: the last.
        value: update, stop: environment steps so far; evaluation: bits of the mean return.
    """

    kind: RecordKind
    detail: int
    worker: int
    generation: int
    version: int
    value: int


class Journal:
    """Collects records in memory; whoever runs the server writes them to disk.

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


def header_bytes(header: dict[str, Any]) -> bytes:
    """The first two lines of a journal."""
    checksum = zlib.crc32(json.dumps(header, sort_keys=True).encode())
    line = json.dumps({"checksum": checksum, "header": header}, sort_keys=True)
    return MAGIC + line.encode() + b"\n"


class Records(Sequence[Record]):
    """The records of a journal, kept as the bytes that they are on disk.

    Args:
        content: of whole records, one after the other.
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
    """A journal read back.

    Attributes:
        header: the JSON object of its second line.
        records: the records up to the first damaged one.
        damage: what is wrong behind them, or None.
        torn: nothing is wrong but that the last record is not all there, as after a kill.
    """

    header: dict[str, Any]
    records: Sequence[Record]
    damage: str | None
    torn: bool = False


class JournalReader:
    """Reads a journal piece by piece, as far as it is whole; a context manager.

    Raises:
        FileFormatError: the file is no journal, or its header is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_to_read(path)
        self.damage: str | None = None
        """What was wrong behind the rows that `rows` gave; None if they were all."""
        self.torn = False
        """Nothing was wrong but that the last record is not all there."""
        try:
            self.header = self._read_header(path)
        except BaseException:
            self._file.close()
            raise
        self.header_size = self._file.tell()
        """Bytes before the first record."""

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
        """The records, some at a time, as structured arrays: the fields of `Record`, ``checksum``.

        Args:
            limit: of this many records, the others are not looked at.
        """
        checksum = number = 0
        while self.damage is None and (limit is None or number < limit):
            wanted = RECORDS_AT_ONCE if limit is None else min(RECORDS_AT_ONCE, limit - number)
            content = self._file.read(wanted * RECORD_SIZE)
            rows = np.frombuffer(content, _ROW, len(content) // RECORD_SIZE)
            stated, kinds, whole = rows["checksum"].tolist(), rows["kind"].tolist(), 0
            for whole, (claim, kind) in enumerate(zip(stated, kinds, strict=True), 1):
                begin = (whole - 1) * RECORD_SIZE
                checksum = zlib.crc32(content[begin : begin + _BODY.size], checksum)
                if claim != checksum or kind not in _KINDS:
                    what = "was altered" if claim != checksum else "is of an unknown kind"
                    self.damage = f"record {number + whole} {what}"
                    whole -= 1
                    break
            number += whole
            if self.damage is None and len(content) % RECORD_SIZE:
                self.damage, self.torn = f"record {number + 1} is cut short", True
            if whole:
                yield rows[:whole]
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
    """Read a journal as far as it is whole.

    Raises:
        FileFormatError: the file is no journal, or its header is damaged.
        OSError: the file cannot be read.
    """
    content = bytearray()
    with JournalReader(path) as reader:
        for rows in reader.rows():
            content += rows.tobytes()
        return JournalFile(reader.header, Records(content), reader.damage, reader.torn)
