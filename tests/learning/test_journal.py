"""The journal is written and read back unchanged, and any change in the file is detected."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from poise.errors import FileFormatError
from poise.learning.journal import (
    MAGIC,
    RECORD_SIZE,
    RECORDS_AT_ONCE,
    Journal,
    JournalFile,
    Record,
    RecordKind,
    StopReason,
    UpdateDetail,
    header_bytes,
    read_journal,
)

HEADER = {"versions": {"jax": "0.8"}, "processor": "é"}
RECORDS = [
    Record(RecordKind.JOIN, 0, 0, 0, 0, 0),
    Record(RecordKind.JOIN, 0, 65535, 2**32 - 1, 0, 0),
    Record(RecordKind.UPDATE, 1, 0, 0, 0, 160),
    Record(RecordKind.UPDATE, 1, 1, 0, 0, 320),
    Record(RecordKind.EVALUATION, 1, 0, 0, 2, 2**64 - 1),
    Record(RecordKind.LEAVE, 0, 1, 0, 2, 0),
    Record(RecordKind.RESUME, 0, 0, 0, 2, 0),
    Record(RecordKind.STOP, int(StopReason.MAX_STEPS), 0, 0, 2**64 - 1, 320),
]
PREFIX = header_bytes(HEADER)


def written(records: list[Record]) -> bytes:
    journal = Journal()
    for record in records:
        journal.append(record)
    assert journal.length == len(records)
    return journal.drain()


def read(content: bytes, folder: Path) -> JournalFile:
    path = folder / "journal"
    path.write_bytes(content)
    return read_journal(path)


def rows() -> list[bytes]:
    content = written(RECORDS)
    return [content[at : at + RECORD_SIZE] for at in range(0, len(content), RECORD_SIZE)]


def test_a_journal_survives_its_file(tmp_path: Path) -> None:
    found = read(PREFIX + written(RECORDS), tmp_path)
    assert found == JournalFile(HEADER, RECORDS, None)
    assert all(type(record.kind) is RecordKind for record in found.records)


def test_a_journal_without_records_is_valid(tmp_path: Path) -> None:
    assert read(PREFIX, tmp_path) == JournalFile(HEADER, [], None)


def test_records_are_of_28_bytes() -> None:
    assert RECORD_SIZE == 28
    assert len(written(RECORDS)) == 28 * len(RECORDS)


def test_draining_in_pieces_gives_the_same_file() -> None:
    journal, content = Journal(), b""
    for index, record in enumerate(RECORDS):
        journal.append(record)
        if index % 3 == 0:
            content += journal.drain()
    content += journal.drain()
    assert content == written(RECORDS)
    assert journal.drain() == b""


def test_a_truncated_journal_can_be_continued(tmp_path: Path) -> None:
    begun = Journal()
    for record in RECORDS[:3]:
        begun.append(record)
    further = Journal(begun.length, begun.checksum)
    for record in RECORDS[3:]:
        further.append(record)
    assert further.length == len(RECORDS)
    assert begun.drain() + further.drain() == written(RECORDS)


def test_every_flipped_bit_of_the_records_is_noticed(tmp_path: Path) -> None:
    content = written(RECORDS[::2])
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        found = read(PREFIX + bytes(damaged), tmp_path)
        record = bit // 8 // RECORD_SIZE
        assert found.damage is not None
        assert f"record {record + 1} " in found.damage
        assert found.records == RECORDS[::2][:record], "valid records before it are kept"


def test_every_flipped_bit_of_the_magic_is_noticed(tmp_path: Path) -> None:
    for bit in range(8 * len(MAGIC)):
        damaged = bytearray(PREFIX + written(RECORDS))
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(FileFormatError, match="not a journal"):
            read(bytes(damaged), tmp_path)


def test_every_flipped_bit_of_the_header_is_noticed(tmp_path: Path) -> None:
    for bit in range(8 * len(MAGIC), 8 * len(PREFIX)):
        damaged = bytearray(PREFIX + written(RECORDS))
        damaged[bit // 8] ^= 1 << (bit % 8)
        try:
            found = read(bytes(damaged), tmp_path)
        except FileFormatError:
            continue
        assert found.damage is not None


@pytest.mark.parametrize("dropped", range(len(RECORDS) - 1))
def test_a_dropped_record_is_noticed(dropped: int, tmp_path: Path) -> None:
    left = rows()
    del left[dropped]
    found = read(PREFIX + b"".join(left), tmp_path)
    assert found.damage == f"record {dropped + 1} was altered"


@pytest.mark.parametrize("first", range(len(RECORDS)))
@pytest.mark.parametrize("second", range(len(RECORDS)))
def test_swapped_records_are_noticed(first: int, second: int, tmp_path: Path) -> None:
    swapped = rows()
    swapped[first], swapped[second] = swapped[second], swapped[first]
    found = read(PREFIX + b"".join(swapped), tmp_path)
    assert (found.damage is None) is (first == second)


def test_a_repeated_record_is_noticed(tmp_path: Path) -> None:
    for index, row in enumerate(rows()):
        repeated = rows()
        repeated.insert(index, row)
        assert read(PREFIX + b"".join(repeated), tmp_path).damage is not None


def test_a_record_of_another_journal_is_noticed(tmp_path: Path) -> None:
    other = written([RECORDS[0], RECORDS[0], RECORDS[2]])
    mixed = rows()
    mixed[2] = other[2 * RECORD_SIZE :]
    assert read(PREFIX + b"".join(mixed), tmp_path).damage == "record 3 was altered"


def test_a_truncated_journal_keeps_its_complete_records(tmp_path: Path) -> None:
    """Truncated between two records, it is like that of a killed run: it has no stop record."""
    content = written(RECORDS)
    for length in range(len(content)):
        found = read(PREFIX + content[:length], tmp_path)
        whole, rest = divmod(length, RECORD_SIZE)
        assert found.records == RECORDS[:whole]
        assert found.damage == (f"record {whole + 1} is cut short" if rest else None)


MANY = 2 * RECORDS_AT_ONCE + 3


def many() -> bytes:
    return written([Record(RecordKind.UPDATE, 1, 0, 0, n, 10 * n) for n in range(MANY)])


def test_a_journal_of_many_pieces_is_read_completely(tmp_path: Path) -> None:
    found = read(PREFIX + many(), tmp_path)
    assert found.damage is None
    assert len(found.records) == MANY
    assert [record.version for record in found.records] == list(range(MANY))
    assert found.records[-1] == found.records[MANY - 1] == found.records[-2:][1]


@pytest.mark.parametrize("place", [RECORDS_AT_ONCE - 1, RECORDS_AT_ONCE, MANY - 1])
def test_damage_in_a_later_piece_is_numbered(place: int, tmp_path: Path) -> None:
    content = bytearray(many())
    content[place * RECORD_SIZE] ^= 1
    found = read(PREFIX + bytes(content), tmp_path)
    assert found.damage == f"record {place + 1} was altered"
    assert len(found.records) == place


def test_reading_a_journal_takes_the_memory_of_its_valid_records(tmp_path: Path) -> None:
    """Not that of the file's size: a sparse file has any size, but zeros have wrong checksums."""
    path = tmp_path / "journal"
    path.write_bytes(PREFIX + many())
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        found = read_journal(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.damage == f"record {MANY + 1} was altered"
    assert len(found.records) == MANY
    assert peak < 4 * RECORD_SIZE * MANY + (1 << 20)


def test_a_pipe_in_place_of_a_journal_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "journal")
    with pytest.raises(OSError, match="not a regular file"):
        read_journal(tmp_path / "journal")


def test_only_an_incomplete_last_record_counts_as_torn(tmp_path: Path) -> None:
    content = PREFIX + written(RECORDS)
    assert read(content[:-1], tmp_path).torn
    assert not read(content, tmp_path).torn
    assert not read(content[:-1] + b"x", tmp_path).torn
    assert not read(content[: len(PREFIX)] + b"x" + content[len(PREFIX) + 1 :], tmp_path).torn


def test_a_truncated_header_is_refused(tmp_path: Path) -> None:
    for length in range(len(PREFIX)):
        with pytest.raises(FileFormatError):
            read(PREFIX[:length], tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"poise journal 2\n{}\n",
        b"{}\n",
        MAGIC + b"\n",
        MAGIC + b"[]\n",
        MAGIC + b"null\n",
        MAGIC + b"{\n",
        MAGIC + b"\xff\xfe\n",
        MAGIC + b"[" * 50_000 + b"\n",
        MAGIC + json.dumps({"x": "y" * (1 << 20)}).encode() + b"\n",
    ],
    ids=lambda content: repr(content[:24]),
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError):
        read(content, tmp_path)


def test_a_record_of_an_unknown_kind_is_noticed(tmp_path: Path) -> None:
    unknown = RECORDS[0]._replace(kind=99)  # type: ignore[arg-type]
    found = read(PREFIX + written([RECORDS[0], unknown, RECORDS[1]]), tmp_path)
    assert found.records == RECORDS[:1]
    assert found.damage == "record 2 is of an unknown kind"


def test_the_numbers_in_a_journal_are_never_changed() -> None:
    """Old journals contain these numbers: only append new ones."""
    kinds = {kind.name: int(kind) for kind in RecordKind}
    assert kinds == {
        "JOIN": 1,
        "UPDATE": 2,
        "LEAVE": 3,
        "EVALUATION": 4,
        "STOP": 5,
        "RESUME": 6,
        "CHANGE": 7,
    }
    assert {one.name: int(one) for one in UpdateDetail} == {"REJECTED": 0, "APPLIED": 1, "WAITS": 2}
    reasons = {reason.name: int(reason) for reason in StopReason}
    assert reasons == {
        "SOLVED": 1,
        "MAX_STEPS": 2,
        "MAX_EPISODES": 3,
        "MAX_SECONDS": 4,
        "INTERRUPTED": 5,
        "TERMINATED": 6,
        "FAILED": 7,
        "NOT_FINITE": 8,
        "FLAT": 9,
        "CALLBACK": 10,
    }
