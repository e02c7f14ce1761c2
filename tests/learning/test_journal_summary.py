"""The summary of a journal after any number of its records."""

from pathlib import Path

import pytest

from poise.errors import FileFormatError
from poise.learning.journal import RECORD_SIZE, Journal, Record, RecordKind, header_bytes
from poise.learning.journal_summary import JournalSummary, journal_summary

HEADER = header_bytes({"processor": "x"})
STORY: list[tuple[Record, dict[str, object]]] = [
    (Record(RecordKind.JOIN, 0, 0, 0, 0, 0), {"seated": {0: 0}, "generations": {0: 0}}),
    (
        Record(RecordKind.JOIN, 0, 1, 0, 0, 0),
        {"seated": {0: 0, 1: 0}, "generations": {0: 0, 1: 0}},
    ),
    (Record(RecordKind.UPDATE, 1, 1, 0, 0, 10), {"version": 1, "steps": 10, "last_worker": 1}),
    (Record(RecordKind.UPDATE, 0, 0, 0, 0, 10), {"bad_gradients": 1, "last_worker": 0}),
    (Record(RecordKind.LEAVE, 0, 1, 0, 1, 0), {"seated": {0: 0}}),
    (Record(RecordKind.EVALUATION, 1, 0, 0, 1, 7), {}),
    (
        Record(RecordKind.JOIN, 0, 1, 1, 1, 0),
        {"seated": {0: 0, 1: 1}, "generations": {0: 0, 1: 1}},
    ),
    (Record(RecordKind.UPDATE, 1, 0, 0, 1, 25), {"version": 2, "steps": 25, "last_worker": 0}),
    (Record(RecordKind.RESUME, 0, 0, 0, 2, 25), {}),
    (Record(RecordKind.STOP, 2, 0, 0, 2, 25), {}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal()
    for record, _ in STORY:
        journal.append(record)
    path = tmp_path / "journal"
    path.write_bytes(HEADER + journal.drain())
    return path


@pytest.mark.parametrize("records", range(len(STORY) + 1))
def test_the_summary_after_any_number_of_records(records: int, path: Path) -> None:
    journal = Journal()
    expected = JournalSummary(len(HEADER) + RECORD_SIZE * records, 0, 0, 0, 0, None, {}, {}, ())
    for record, change in STORY[:records]:
        journal.append(record)
        expected = expected._replace(**change)  # type: ignore[arg-type]
    assert journal_summary(path, records) == expected._replace(checksum=journal.checksum)


def test_a_journal_with_too_few_records_is_refused(path: Path) -> None:
    with pytest.raises(FileFormatError, match="should have 11 records, but it has only 10"):
        journal_summary(path, len(STORY) + 1)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(FileFormatError, match="but record 10 is cut short"):
        journal_summary(path, len(STORY))


def test_a_missing_record_is_found_anywhere(path: Path) -> None:
    """As after a power failure: the last record was written, one before it was not."""
    content = bytearray(path.read_bytes())
    begin = len(HEADER) + 2 * RECORD_SIZE
    content[begin : begin + RECORD_SIZE] = bytes(RECORD_SIZE)
    path.write_bytes(content)
    assert journal_summary(path, 2).steps == 0
    with pytest.raises(FileFormatError, match="but record 3 was altered"):
        journal_summary(path, len(STORY))
