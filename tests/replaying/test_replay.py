"""Replay agrees with every run, and rejects every altered one, even by one bit or one record.

Files are altered in two ways: without changing checksums, which then detect it, and with correct
checksums, so that only a comparison with what the server really does can detect it.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import poise
from poise.agent.policy_file import policy_to_bytes
from poise.cli import main
from poise.errors import FileFormatError, PoiseError, ReplayMismatchError, RunFolderError
from poise.learning.events import Evaluated, Event
from poise.learning.journal import (
    RECORD_SIZE,
    Journal,
    Record,
    RecordKind,
    StopReason,
    header_bytes,
    read_journal,
)
from poise.storage.config_digest import sealed
from poise.training import monitor

from ..small import copy, summary, train

Records = list[Record]
MOST = {"detail": 2**8 - 1, "worker": 2**16 - 1, "generation": 2**32 - 1}


@pytest.fixture(scope="session")
def timed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended for an external reason, after an evaluation and many updates."""
    folder = tmp_path_factory.mktemp("runs") / "timed"
    budget = {"max_steps": None, "max_seconds": 1000.0, "target_return": 1e9}
    evaluations: list[Event] = []

    def note(when: float, event: Event) -> None:
        if isinstance(event, Evaluated):
            evaluations.append(event)

    with pytest.MonkeyPatch.context() as patch:
        clock = SimpleNamespace(monotonic=lambda: 1.0 + 1e6 * (len(evaluations) > 1))
        patch.setattr(monitor, "time", clock)
        return train(folder, **budget, evaluation_interval=1500, callbacks=[note]).folder


@pytest.fixture
def altered(threads_run: Path, tmp_path: Path) -> Path:
    return copy(threads_run, tmp_path)


def records_of(folder: Path) -> Records:
    return list(read_journal(folder / "journal").records)


def header_of(folder: Path) -> bytes:
    return b"".join((folder / "journal").read_bytes().splitlines(keepends=True)[:2])


def rewrite(folder: Path, records: Records) -> None:
    """Write records with correct checksums."""
    journal = Journal()
    for record in records:
        journal.append(record)
    (folder / "journal").write_bytes(header_of(folder) + journal.drain())
    assert read_journal(folder / "journal").damage is None


def first(records: Records, kind: RecordKind) -> int:
    return next(index for index, record in enumerate(records) if record.kind == kind)


def last(records: Records, kind: RecordKind) -> int:
    return max(index for index, record in enumerate(records) if record.kind == kind)


def middle(records: Records, kind: RecordKind) -> int:
    places = [index for index, record in enumerate(records) if record.kind == kind]
    return places[len(places) // 2]


class TestAgreement:
    """With programs that each replay compiles."""

    def test_four_threads_are_repeated_bit_for_bit(self, threads_run: Path):
        report = poise.replay(threads_run)
        found = summary(threads_run)
        assert found["workers"] == 4
        assert (report.steps, report.updates) == (found["steps"], found["updates"])
        assert report.records == len(records_of(threads_run))
        assert set(report.compared) == {"final.safetensors", "best.safetensors"}
        assert report.warnings == ()
        final = poise.load(threads_run, which="final").parameters
        assert len(report.final_hash) == 64
        assert final.dtype == np.float32

    @pytest.mark.slow
    def test_two_serial_workers_are_repeated(self, serial_run: Path):
        assert poise.replay(serial_run).updates == summary(serial_run)["updates"]


@pytest.mark.usefixtures("shared_programs", "no_curves")
class TestWhatIsCompared:
    def test_a_replay_changes_no_file(self, altered: Path):
        before = {path: path.read_bytes() for path in altered.iterdir() if path.is_file()}
        poise.replay(altered)
        after = {path: path.read_bytes() for path in altered.iterdir() if path.is_file()}
        assert after == before

    def test_every_setting_that_learning_depends_on_is_replayed(self, tmp_path: Path):
        folder = train(
            tmp_path / "run",
            launcher="threads",
            workers=3,
            optimizer="rmsprop",
            learning_rate_schedule="linear",
            gae_lambda=1.0,
            normalize_advantages=False,
            entropy_coefficient=0.01,
            max_gradient_norm=float("inf"),
            failure_reward=-1.0,
            hidden_sizes=(),
        ).folder
        poise.replay(folder)

    @pytest.mark.parametrize("records", [0, 1, 3, 10, -1])
    def test_a_killed_run_is_repeated_up_to_the_end_of_its_journal(
        self, altered: Path, records: int
    ):
        """A killed run has no summary and no final parameters; its journal ends without a stop."""
        kept = records_of(altered)[:records]
        rewrite(altered, kept)
        for name in ("summary.json", "final.safetensors", "best.safetensors"):
            (altered / name).unlink()
        report = poise.replay(altered)
        assert report.records == len(kept)
        assert report.updates == sum(record.kind == RecordKind.UPDATE for record in kept)
        assert report.compared == ()

    @pytest.mark.parametrize("left", [b"", b"torn"])
    def test_a_run_whose_disk_was_full_is_repeated_up_to_the_end_of_its_journal(
        self, altered: Path, left: bytes
    ):
        """Its journal may lack the stop, or end with half a record; the final files are missing."""
        for name in ("summary.json", "final.safetensors", "learning_curve.png"):
            (altered / name).unlink()
        if left:
            rewrite(altered, records_of(altered)[:-1])
            with (altered / "journal").open("ab") as journal:
                journal.write(left)
        report = poise.replay(altered)
        assert report.records == len(records_of(altered))
        assert report.compared == ("best.safetensors",)

    def test_missing_comparisons_are_reported(
        self, altered: Path, capsys: pytest.CaptureFixture[str]
    ):
        (altered / "summary.json").unlink()
        (altered / "final.safetensors").unlink()
        assert main(["replay", str(altered)]) == 0
        said = capsys.readouterr().out
        assert "compared best.safetensors (the run has no final.safetensors" in said
        (altered / "best.safetensors").unlink()
        assert main(["replay", str(altered)]) == 0
        assert "compared no parameters (the run has no final" in capsys.readouterr().out

    def test_the_best_policy_of_a_killed_run_is_compared_if_it_is_current(
        self, altered: Path, serial_run: Path
    ):
        (altered / "summary.json").unlink()
        (altered / "final.safetensors").unlink()
        content = bytearray((altered / "best.safetensors").read_bytes())
        content[-1] ^= 1
        (altered / "best.safetensors").write_bytes(content)
        with pytest.raises(ReplayMismatchError, match="best parameters differ"):
            poise.replay(altered)

    def test_another_machine_is_a_warning(self, altered: Path):
        path = altered / "journal"
        content = path.read_bytes().removeprefix(header_of(altered))
        header = read_journal(path).header
        header["processor"] = "an abacus"
        header["versions"]["jaxlib"] = "0.0.1"
        path.write_bytes(header_bytes(header) + content)
        warnings = poise.replay(altered).warnings
        assert len(warnings) == 2
        assert any("abacus" in warning for warning in warnings)
        assert any("jaxlib was 0.0.1" in warning for warning in warnings)


@pytest.mark.usefixtures("shared_programs")
class TestParameters:
    @pytest.mark.parametrize("name", ["final", "best"])
    @pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
    def test_one_flipped_bit_is_found(self, altered: Path, name: str, place: float):
        path = altered / f"{name}.safetensors"
        content = bytearray(path.read_bytes())
        (header,) = struct.unpack("<Q", content[:8])
        begin = 8 + header
        content[begin + int(place * (len(content) - 1 - begin))] ^= 1
        path.write_bytes(content)
        with pytest.raises(ReplayMismatchError, match=f"{name} parameters differ"):
            poise.replay(altered)

    def test_the_parameters_of_another_run_are_found(self, altered: Path, serial_run: Path):
        (altered / "final.safetensors").write_bytes((serial_run / "final.safetensors").read_bytes())
        with pytest.raises(ReplayMismatchError, match="final parameters differ"):
            poise.replay(altered)

    def test_a_truncated_file_is_found(self, altered: Path):
        path = altered / "final.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ReplayMismatchError):
            poise.replay(altered)

    def test_a_missing_parameter_file_is_reported(self, altered: Path):
        (altered / "final.safetensors").unlink()
        with pytest.raises(RunFolderError, match=r"final\.safetensors"):
            poise.replay(altered)

    @pytest.mark.parametrize(
        "setting",
        [
            {"learning_rate": 1e-3},
            {"seed": 4},
            pytest.param({"discount": 0.98}, marks=pytest.mark.slow),
        ],
    )
    def test_other_settings_give_other_parameters(self, altered: Path, setting: dict[str, Any]):
        path = altered / "config.json"
        content = json.loads(path.read_text())
        content["settings"] |= setting
        path.write_text(json.dumps(sealed(content)))
        with pytest.raises(ReplayMismatchError):
            poise.replay(altered)


@pytest.mark.usefixtures("shared_programs")
class TestAnnounced:
    """A run that announced at its start that it cannot be replayed exactly."""

    @pytest.fixture
    def announced(self, serial_run: Path, tmp_path: Path) -> Path:
        folder = copy(serial_run, tmp_path)
        self.change(folder, "resolved", replayable=False)
        return folder

    def change(self, folder: Path, where: str, **values: Any) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text())
        content[where] |= values
        path.write_text(json.dumps(sealed(content)))

    def test_a_difference_was_to_be_expected(self, announced: Path):
        self.change(announced, "settings", learning_rate=1e-3)
        with pytest.raises(ReplayMismatchError, match=r"differs at .*; this was to be expected"):
            poise.replay(announced)

    def test_other_parameters_were_to_be_expected(self, announced: Path):
        policy = poise.load(announced, "final")
        policy.parameters = policy.parameters + np.float32(1)
        (announced / "final.safetensors").write_bytes(policy_to_bytes(policy))
        with pytest.raises(ReplayMismatchError, match=r"parameters differ.*was to be expected"):
            poise.replay(announced)

    def test_an_altered_journal_was_not_to_be_expected(self, announced: Path):
        journal = bytearray((announced / "journal").read_bytes())
        journal[-1] ^= 1
        (announced / "journal").write_bytes(journal)
        with pytest.raises(ReplayMismatchError) as caught:
            poise.replay(announced)
        assert "expected" not in str(caught.value)

    def test_an_exact_replay_is_reported(
        self, announced: Path, serial_run: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert poise.replay(announced).announced
        assert main(["replay", str(announced)]) == 0
        assert (
            capsys.readouterr().out.splitlines()[-1].startswith("(the run had warned at its start")
        )
        assert not poise.replay(serial_run).announced


@pytest.mark.usefixtures("shared_programs")
class TestRecords:
    """Altered records with correct checksums."""

    @pytest.mark.parametrize(
        ("kind", "field", "change"),
        [
            (RecordKind.JOIN, "worker", lambda old: old + 1),
            (RecordKind.JOIN, "worker", lambda old: MOST["worker"]),
            (RecordKind.JOIN, "generation", lambda old: 1),
            (RecordKind.JOIN, "generation", lambda old: MOST["generation"]),
            (RecordKind.JOIN, "version", lambda old: old + 1),
            (RecordKind.JOIN, "detail", lambda old: 1),
            (RecordKind.JOIN, "value", lambda old: 1),
            (RecordKind.JOIN, "kind", lambda old: RecordKind.LEAVE),
            (RecordKind.UPDATE, "worker", lambda old: (old + 1) % 4),
            (RecordKind.UPDATE, "worker", lambda old: 4),
            (RecordKind.UPDATE, "generation", lambda old: 1),
            (RecordKind.UPDATE, "version", lambda old: old - 1),
            (RecordKind.UPDATE, "version", lambda old: 2**64 - 1),
            (RecordKind.UPDATE, "detail", lambda old: 0),
            (RecordKind.UPDATE, "detail", lambda old: MOST["detail"]),
            (RecordKind.UPDATE, "value", lambda old: old + 1),
            (RecordKind.UPDATE, "kind", lambda old: RecordKind.EVALUATION),
            (RecordKind.UPDATE, "kind", lambda old: RecordKind.RESUME),
            (RecordKind.UPDATE, "kind", lambda old: RecordKind.STOP),
            (RecordKind.EVALUATION, "value", lambda old: old ^ 1),
            (RecordKind.EVALUATION, "version", lambda old: old + 1),
            (RecordKind.EVALUATION, "detail", lambda old: 1 - old),
            (RecordKind.EVALUATION, "worker", lambda old: 1),
            (RecordKind.EVALUATION, "kind", lambda old: RecordKind.UPDATE),
            (RecordKind.STOP, "detail", lambda old: StopReason.MAX_EPISODES),
            (RecordKind.STOP, "detail", lambda old: StopReason.INTERRUPTED),
            (RecordKind.STOP, "detail", lambda old: 0),
            (RecordKind.STOP, "version", lambda old: old + 1),
            (RecordKind.STOP, "value", lambda old: old - 1),
            (RecordKind.STOP, "kind", lambda old: RecordKind.LEAVE),
        ],
    )
    def test_one_altered_field_is_found(
        self, altered: Path, kind: RecordKind, field: str, change: Callable[[int], int]
    ):
        records = records_of(altered)
        place = middle(records, kind)
        record = records[place]
        records[place] = record._replace(**{field: change(getattr(record, field))})
        assert records[place] != record
        rewrite(altered, records)
        with pytest.raises(ReplayMismatchError):
            poise.replay(altered)

    @pytest.mark.parametrize("kind", [RecordKind.JOIN, RecordKind.UPDATE, RecordKind.EVALUATION])
    @pytest.mark.parametrize("which", [first, middle, last])
    def test_a_dropped_record_is_found(
        self, altered: Path, kind: RecordKind, which: Callable[[Records, RecordKind], int]
    ):
        records = records_of(altered)
        del records[which(records, kind)]
        rewrite(altered, records)
        with pytest.raises(ReplayMismatchError):
            poise.replay(altered)

    @pytest.mark.parametrize(
        "kind", [RecordKind.JOIN, RecordKind.UPDATE, RecordKind.EVALUATION, RecordKind.STOP]
    )
    def test_a_duplicated_record_is_found(self, altered: Path, kind: RecordKind):
        records = records_of(altered)
        place = middle(records, kind)
        records.insert(place, records[place])
        rewrite(altered, records)
        with pytest.raises(ReplayMismatchError):
            poise.replay(altered)

    def test_two_swapped_records_are_found(self, altered: Path):
        records = records_of(altered)
        place = next(
            index
            for index in range(middle(records, RecordKind.UPDATE), len(records))
            if records[index].kind == records[index + 1].kind == RecordKind.UPDATE
            and records[index].worker != records[index + 1].worker
        )
        records[place : place + 2] = records[place + 1], records[place]
        rewrite(altered, records)
        with pytest.raises(ReplayMismatchError):
            poise.replay(altered)

    @pytest.mark.parametrize("cut", [1, 2, 5])
    @pytest.mark.parametrize("run", ["threads_run", "timed_run"])
    def test_a_journal_that_ends_too_soon_is_found(
        self, request: pytest.FixtureRequest, tmp_path: Path, run: str, cut: int
    ):
        """There are final parameters, so the run was not killed, so there must be a stop record."""
        folder = copy(request.getfixturevalue(run), tmp_path)
        rewrite(folder, records_of(folder)[:-cut])
        with pytest.raises(ReplayMismatchError):
            poise.replay(folder)

    @pytest.mark.parametrize(
        "reason", [StopReason.SOLVED, StopReason.MAX_STEPS, StopReason.MAX_EPISODES]
    )
    def test_a_reason_that_the_server_does_not_find_is_detected(
        self, timed_run: Path, tmp_path: Path, reason: StopReason
    ):
        """Only seconds, signals and failures are external reasons."""
        folder = copy(timed_run, tmp_path)
        records = records_of(folder)
        assert records[-1].detail == StopReason.MAX_SECONDS
        rewrite(folder, [*records[:-1], records[-1]._replace(detail=int(reason))])
        with pytest.raises(ReplayMismatchError):
            poise.replay(folder)

    def test_an_unknown_worker_is_found(self, altered: Path):
        records = records_of(altered)
        ghost = records[first(records, RecordKind.JOIN)]._replace(worker=99)
        rewrite(altered, [ghost, *records])
        with pytest.raises(ReplayMismatchError):
            poise.replay(altered)


@pytest.mark.usefixtures("shared_programs")
class TestBytes:
    """Altered bytes, which the checksums detect."""

    @pytest.mark.parametrize("offset", range(RECORD_SIZE))
    def test_one_flipped_bit_in_a_record_is_found(self, altered: Path, offset: int):
        content = bytearray((altered / "journal").read_bytes())
        content[len(header_of(altered)) + 7 * RECORD_SIZE + offset] ^= 1 << offset % 8
        (altered / "journal").write_bytes(content)
        found = read_journal(altered / "journal")
        assert found.damage is not None
        assert len(found.records) == 7
        if offset % 9 == 0:
            with pytest.raises(ReplayMismatchError, match="record 8"):
                poise.replay(altered)

    @pytest.mark.parametrize(
        "alter",
        [
            lambda rows: rows[:5] + rows[6:],
            lambda rows: [*rows[:5], rows[6], rows[5], *rows[7:]],
            lambda rows: [*rows[:5], rows[5], *rows[5:]],
            lambda rows: [*rows, rows[-1]],
            lambda rows: [*rows[:-1], rows[-1][:-1]],
            lambda rows: [*rows, b"\0"],
        ],
        ids=["dropped", "swapped", "doubled", "appended", "cut short", "one byte more"],
    )
    def test_moved_records_are_found(
        self, altered: Path, alter: Callable[[list[bytes]], list[bytes]]
    ):
        content = (altered / "journal").read_bytes()[len(header_of(altered)) :]
        rows = [content[at : at + RECORD_SIZE] for at in range(0, len(content), RECORD_SIZE)]
        (altered / "journal").write_bytes(header_of(altered) + b"".join(alter(rows)))
        with pytest.raises(ReplayMismatchError, match="record"):
            poise.replay(altered)

    def test_an_altered_header_is_found(self, altered: Path):
        content = (altered / "journal").read_bytes()
        assert b"poise" in header_of(altered)
        (altered / "journal").write_bytes(content.replace(b'"jaxlib": "', b'"jaxlib": "9', 1))
        with pytest.raises(ReplayMismatchError, match="header"):
            poise.replay(altered)

    @pytest.mark.parametrize("content", [b"", b"poise journal 1\n", b"poise journal 2\n{}\n"])
    def test_a_file_that_is_no_journal_is_reported(self, altered: Path, content: bytes):
        (altered / "journal").write_bytes(content)
        with pytest.raises((ReplayMismatchError, FileFormatError)):
            poise.replay(altered)

    @pytest.mark.parametrize("name", ["journal", "config.json"])
    def test_a_missing_file_is_bad_input(self, altered: Path, name: str):
        (altered / name).unlink()
        with pytest.raises(RunFolderError, match=name) as caught:
            poise.replay(altered)
        assert caught.value.exit_code == 2

    def test_a_missing_run_is_bad_input(self, tmp_path: Path):
        with pytest.raises(PoiseError, match="nowhere") as caught:
            poise.replay(tmp_path / "nowhere")
        assert caught.value.exit_code == 2
