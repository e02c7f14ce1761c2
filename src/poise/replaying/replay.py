"""Replay: a run's journal, followed serially, must lead to the same parameters, bit for bit."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poise.agent.policy_file import parameter_hash
from poise.errors import FileFormatError, ReplayMismatchError, RunFolderError
from poise.evaluation.evaluator import Evaluator
from poise.launchers.stop_signals import handlers_kept
from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.learning.journal import (
    Journal,
    JournalFile,
    Record,
    RecordKind,
    StopReason,
    read_journal,
)
from poise.learning.parameter_server import (
    EvaluationAborted,
    ParameterServer,
    ProtocolError,
    ServerSettings,
)
from poise.learning.worker import Worker
from poise.replaying.comparison import compare_parameters, has_final
from poise.settings import known_arguments
from poise.storage.config_digest import require_unchanged
from poise.storage.run_folder import load_config, load_resumptions, run_path, with_decisions
from poise.storage.trust import EnvironmentFactory, env_factory_from_file
from poise.training.components import RunComponents, build_components
from poise.training.jax_settings import adopt_settings, recorded_settings, settings_restored
from poise.training.measured_traits import MeasuredTraits
from poise.training.provenance import differences
from poise.training.runtime import prepare_jax
from poise.trajectory import Snapshot

__all__ = ["ReplayReport", "replay"]

# Why a run gave up an evaluation.
_ABORTING = (StopReason.INTERRUPTED, StopReason.TERMINATED, StopReason.FAILED)
# Why a run was ended from outside, with an evaluation of what had been learned since the last one.
_CONCLUDED = (StopReason.MAX_SECONDS, StopReason.CALLBACK)
# Why a run was ended from outside; every other reason, the server must come to by itself.
_OUTSIDE = (*_ABORTING, *_CONCLUDED)


class ReplayReport(NamedTuple):
    """A replay that agreed with its run.

    Attributes:
        records: journal records that were repeated.
        steps: environment steps that were repeated.
        updates: updates that were applied.
        final_hash: SHA-256 of the final parameters.
        compared: the files whose parameters were compared; a run that was killed, or whose disk
            was full, may have left none.
        warnings: what is different on this machine and might have made a difference.
        announced: the run had said when it began that it cannot be replayed exactly, and replayed
            all the same.
    """

    records: int
    steps: int
    updates: int
    final_hash: str
    compared: tuple[str, ...]
    warnings: tuple[str, ...]
    announced: bool = False


@known_arguments
@settings_restored()
@handlers_kept()
def replay(
    run: str | Path, *, environment: EnvironmentFactory | None = None, trust: bool = False
) -> ReplayReport:
    """Repeat a run from its journal and compare.

    Args:
        run: a run's folder.
        environment: makes the environment, instead of what the run's file names.
        trust: import the environment that the run's file names by an import path.

    Raises:
        ReplayMismatchError: a record or the parameters differ, or were altered.
        RunFolderError: there is no run in the folder.
        FileFormatError: its settings are damaged, or were changed since.
    """
    folder = run_path(run).absolute()
    config, resolved = load_config(folder)
    require_unchanged(folder)
    journal = _read(folder)
    prepare_jax()
    adopt_settings(recorded_settings(resolved))
    env_factory = env_factory_from_file(config.environment_choice, environment, trust)
    components = build_components(with_decisions(config, resolved), env_factory)
    components = dataclasses.replace(components, measured=MeasuredTraits.recorded(resolved))
    warnings = differences(journal.header, resolved, components)
    components.compile()
    checking = _CheckingJournal(journal.records)
    evaluator = components.evaluator()
    try:
        segments = _segments(components, load_resumptions(folder))
        server = components.server(
            _ReplayedEvaluator(evaluator, checking), lambda event: None, checking, segments.pop(-1)
        )
        with _as_announced(resolved):
            _follow(server, components, checking, segments)
    finally:
        evaluator.close()
        components.close()
    has_stopped = bool(journal.records) and journal.records[-1].kind == RecordKind.STOP
    # A kill, or a full disk, may tear the last record; then there are no final parameters.
    torn_at_the_end = journal.torn and not has_stopped and not has_final(folder)
    if journal.damage is not None and not torn_at_the_end:
        raise ReplayMismatchError(f"the journal differs: {journal.damage}")
    with _as_announced(resolved):
        compared = compare_parameters(folder, server, has_stopped)
    return ReplayReport(
        records=checking.length,
        steps=server.steps,
        updates=server.version,
        final_hash=parameter_hash(np.asarray(server.snapshot().parameters)),
        compared=compared,
        warnings=warnings,
        announced=resolved.get("replayable") is False,
    )


@contextlib.contextmanager
def _as_announced(resolved: dict[str, Any]) -> Iterator[None]:
    """Say of a difference that the run had announced it, if it had."""
    try:
        yield
    except ReplayMismatchError as error:
        if resolved.get("replayable") is not False:
            raise
        raise ReplayMismatchError(
            f"{error}; that was to be expected: the run said when it began that it cannot be "
            "replayed exactly"
        ) from error


class _CheckingJournal(Journal):
    """Compares every record with what the run wrote down, as soon as it is made."""

    def __init__(self, expected: Sequence[Record]) -> None:
        super().__init__()
        self._expected = expected

    @property
    def next(self) -> Record | None:
        """The record that must come next; None at the end."""
        return self._expected[self.length] if self.length < len(self._expected) else None

    def peek(self, ahead: int) -> Record | None:
        """The record after this many others."""
        position = self.length + ahead
        return self._expected[position] if position < len(self._expected) else None

    def append(self, record: Record) -> None:
        if self.next is None:
            raise _EndOfJournalError
        if record != self.next:
            raise ReplayMismatchError(
                f"the replay differs at record {self.length + 1}: "
                f"the journal says {_describe(self.next)}, the replay {_describe(record)}"
            )
        super().append(record)
        self.drain()


class _ReplayedEvaluator:
    """The run's evaluator, which gives up an evaluation where the run had to."""

    def __init__(self, evaluator: Evaluator, journal: _CheckingJournal) -> None:
        self._evaluator = evaluator
        self._journal = journal

    def __call__(self, candidate: Candidate) -> EvaluationResult:
        upcoming = self._journal.next
        if upcoming is None:
            raise _EndOfJournalError
        if upcoming.kind == RecordKind.STOP and _reason(upcoming) in _ABORTING:
            raise EvaluationAborted(_reason(upcoming))
        return self._evaluator(candidate)


class _EndOfJournalError(Exception):
    """The run was killed before it could write the next record."""


def _follow(
    server: ParameterServer,
    components: RunComponents,
    journal: _CheckingJournal,
    segments: dict[int, ServerSettings],
) -> None:
    workers: dict[int, Worker] = {}
    snapshots: dict[int, Snapshot] = {}
    states: dict[int, Any] = {}

    def differ(what: str) -> ReplayMismatchError:
        return ReplayMismatchError(f"the journal differs: record {journal.length + 1} {what}")

    def join(record: Record) -> None:
        if record.worker >= components.config.workers:
            raise differ(f"is of worker {record.worker}, which this run does not have")
        snapshots[record.worker] = server.join(record.worker, record.generation)
        if record.worker in workers:
            workers[record.worker].close()
        worker = components.worker(record.worker, record.generation)
        workers[record.worker] = worker
        states[record.worker] = worker.initial_state()

    def contribute(record: Record) -> None:
        if record.worker not in snapshots:
            raise differ(f"is an update of worker {record.worker}, which holds no snapshot")
        worker = workers[record.worker]
        snapshot = snapshots.pop(record.worker)
        worker_update, states[record.worker] = worker.cycle(snapshot, states[record.worker])
        snapshots.update(server.receive(record.worker, worker_update))

    def leave(record: Record) -> None:
        snapshots.update(server.leave(record.worker, for_good=bool(record.detail)))

    def evaluate(record: Record) -> None:
        # An evaluation that no update led to belongs to the end of the run behind it.
        del record
        end = journal.peek(1)
        reason = StopReason.MAX_SECONDS
        if end is not None:
            reason = _reason(end) if end.kind == RecordKind.STOP else StopReason.FAILED
            if reason not in (*_CONCLUDED, StopReason.SOLVED):
                raise differ("is an evaluation out of turn")
            # What ended a run that this evaluation solved is not known, and makes no difference.
            reason = StopReason.MAX_SECONDS if reason == StopReason.SOLVED else reason
        server.stop(reason)

    def resume(record: Record) -> None:
        del record
        # An evaluation that the run was stopped in came first, under the old ones.
        due = [begin for begin in segments if begin <= journal.length]
        if not due:
            raise differ("goes on under budgets that config.json does not know")
        settings = segments[max(due)]
        for begin in due:
            del segments[begin]
        server.change(settings)

    def stop(record: Record) -> None:
        reason = _reason(record)
        # How many bad gradients were too many, only the journal says.
        broken = reason == StopReason.NOT_FINITE and server.bad_gradients > 0
        if reason not in _OUTSIDE and not broken:
            raise differ(f"says that the run ended by {reason.name}, to which it had not come")
        server.stop(reason)

    steps: dict[RecordKind, Callable[[Record], None]] = {
        RecordKind.JOIN: join,
        RecordKind.UPDATE: contribute,
        RecordKind.LEAVE: leave,
        RecordKind.EVALUATION: evaluate,
        RecordKind.RESUME: resume,
        RecordKind.STOP: stop,
    }
    while (record := journal.next) is not None:
        before = journal.length
        if record.kind not in steps:
            raise ReplayMismatchError(f"record {before + 1} is of a kind that cannot be replayed")
        try:
            steps[record.kind](record)
        except _EndOfJournalError:
            return
        except ProtocolError as error:
            raise differ(f"cannot be: {error}") from error
        if journal.length == before:
            raise ReplayMismatchError(
                f"the replay differs: record {before + 1} ({_describe(record)}) did not come about"
            )


def _read(folder: Path) -> JournalFile:
    path = folder / "journal"
    try:
        return read_journal(path)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    except FileFormatError as error:
        raise ReplayMismatchError(f"the journal was altered: {error}") from error


def _segments(
    components: RunComponents, resumptions: list[dict[str, Any]]
) -> dict[int, ServerSettings]:
    """The server's settings by the record that they begin at, -1 for the first.

    Only the last budgets ended the run; those before it were left for larger ones.
    """
    # Which bad gradient was one too many, the journal says.
    config = dataclasses.replace(components.config, max_bad_gradients=2**62)
    segments = {-1: components.server_settings(config)}
    for one in resumptions:
        budgets = {name: value for name, value in one.items() if name != "record"}
        changed = dataclasses.replace(config, **budgets)
        segments[one["record"]] = components.server_settings(changed)
    last = max(segments)
    return {
        record: settings
        if record == last
        else settings._replace(max_steps=None, max_episodes=None, stop_when_flat=None)
        for record, settings in segments.items()
    }


def _reason(record: Record) -> StopReason:
    try:
        return StopReason(record.detail)
    except ValueError as error:
        raise ReplayMismatchError(f"a stop for an unknown reason: {record.detail}") from error


def _describe(record: Record | None) -> str:
    if record is None:
        return "that the run had ended"
    return (
        f"{record.kind.name.lower()} of worker {record.worker} "
        f"(version {record.version}, detail {record.detail}, value {record.value})"
    )
