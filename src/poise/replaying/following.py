"""Following a journal: the same server, and one worker at a time, in the order of the records."""

from collections.abc import Callable, Sequence
from typing import Any

from poise.errors import ReplayMismatchError
from poise.evaluation.evaluator import Evaluator
from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.learning.journal import Journal, Record, RecordKind, StopReason
from poise.learning.parameter_server import (
    EvaluationAborted,
    ParameterServer,
    ProtocolError,
    ServerSettings,
)
from poise.learning.worker import Worker
from poise.training.components import RunComponents
from poise.trajectory import Snapshot

__all__ = ["CheckingJournal", "ReplayedEvaluator", "follow"]

# Reasons for which a run aborts an evaluation.
_ABORTING = (StopReason.INTERRUPTED, StopReason.TERMINATED, StopReason.FAILED)
# External reasons to stop, followed by an evaluation of what was learned since the last one.
_CONCLUDED = (StopReason.MAX_SECONDS, StopReason.CALLBACK)
# External reasons to stop; the server itself must find every other reason.
_OUTSIDE = (*_ABORTING, *_CONCLUDED)


class CheckingJournal(Journal):
    """Compares every record with the run's journal, as soon as it is made."""

    def __init__(self, expected: Sequence[Record]) -> None:
        super().__init__()
        self._expected = expected

    @property
    def next(self) -> Record | None:
        """The expected next record; None at the end of the journal."""
        return self._expected[self.length] if self.length < len(self._expected) else None

    def peek(self, ahead: int) -> Record | None:
        """Return the record that follows after this many others."""
        position = self.length + ahead
        return self._expected[position] if position < len(self._expected) else None

    def append(self, record: Record) -> None:
        """Compare a record with that of the run.

        Raises:
            ReplayMismatchError: they differ.
        """
        if self.next is None:
            raise _EndOfJournalError
        if record != self.next:
            raise ReplayMismatchError(
                f"the replay differs at record {self.length + 1}: "
                f"the journal says {_describe(self.next)}, the replay {_describe(record)}"
            )
        super().append(record)
        self.drain()


class ReplayedEvaluator:
    """The run's evaluator, which aborts an evaluation where the run did."""

    def __init__(self, evaluator: Evaluator, journal: CheckingJournal) -> None:
        self._evaluator = evaluator
        self._journal = journal

    def __call__(self, candidate: Candidate) -> EvaluationResult:
        """Evaluate, unless the run aborted this evaluation."""
        upcoming = self._journal.next
        if upcoming is None:
            raise _EndOfJournalError
        if upcoming.kind == RecordKind.STOP and _reason(upcoming) in _ABORTING:
            raise EvaluationAborted(_reason(upcoming))
        return self._evaluator(candidate)


class _EndOfJournalError(Exception):
    """The run was killed before it could write the next record."""


def follow(
    server: ParameterServer,
    components: RunComponents,
    journal: CheckingJournal,
    segments: dict[int, ServerSettings],
) -> None:
    """Repeat what the journal records, up to its end.

    Args:
        server: a new server.
        components: the run's components; they make the workers.
        journal: the run's journal.
        segments: the server's settings by the record at which they begin; used ones are removed.

    Raises:
        ReplayMismatchError: a record differs, or the replay does not produce it.
    """
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
        snapshots.update(server.leave(record.worker, permanently=bool(record.detail)))

    def evaluate(record: Record) -> None:
        # An evaluation that no update triggered is part of the end of the run, which follows it.
        del record
        end = journal.peek(1)
        reason = StopReason.MAX_SECONDS
        if end is not None:
            reason = _reason(end) if end.kind == RecordKind.STOP else StopReason.FAILED
            if reason not in (*_CONCLUDED, StopReason.SOLVED):
                raise differ("is an evaluation out of turn")
            # If this evaluation solved the run, the earlier reason is unknown and does not matter.
            reason = StopReason.MAX_SECONDS if reason == StopReason.SOLVED else reason
        server.stop(reason)

    def resume(record: Record) -> None:
        del record
        # If the run was stopped in an evaluation, that came first, under the old budgets.
        due = [begin for begin in segments if begin <= journal.length]
        if not due:
            raise differ("continues under budgets that config.json does not list")
        settings = segments[max(due)]
        for begin in due:
            del segments[begin]
        server.change(settings)

    def stop(record: Record) -> None:
        reason = _reason(record)
        # Only the journal says how many bad gradients were too many.
        broken = reason == StopReason.NOT_FINITE and server.bad_gradients > 0
        if reason not in _OUTSIDE and not broken:
            raise differ(f"says that the run ended by {reason.name}, but the replay did not")
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
            raise differ(f"is impossible: {error}") from error
        if journal.length == before:
            raise ReplayMismatchError(
                f"the replay differs: record {before + 1} ({_describe(record)}) did not occur"
            )


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
