"""The recorder: writes what happened in a run, and when, to files that are only appended to."""

import json
import os
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

from poise.learning.event_json import event_to_json
from poise.learning.events import (
    CheckpointReady,
    EpisodeFinished,
    Evaluated,
    Event,
    Joined,
    Rejected,
    TrainingSolved,
    Updated,
)
from poise.learning.journal import RECORD_SIZE, Journal, header_bytes
from poise.learning.run_state import RunState
from poise.safe_open import open_to_change
from poise.storage.checkpoints.store import Offsets

__all__ = ["Recorder"]


class Solved(NamedTuple):
    """When a run solved its environment: by verification, and by its training episodes."""

    solved_at_steps: int | None
    training_solved_seconds: float | None
    training_solved_steps: int | None


class Recorder:
    """Writes ``metrics.jsonl`` and ``journal`` in a run's folder.

    Args:
        folder: the run's folder.
        header: the journal's header.
        journal: the journal to which the server adds its records.
        record_every: updates between two rows about updates.
        started: monotonic time at which the process started.
        resumed: where to truncate the files and continue; None for new files.
    """

    def __init__(
        self,
        folder: Path,
        header: dict[str, Any],
        journal: Journal,
        record_every: int,
        started: float,
        resumed: Offsets | None = None,
    ) -> None:
        self._rows: list[str] = []
        self._was_cut = False
        self._journal = journal
        self._record_every = record_every
        self._started = started
        self._before = resumed
        self._first_cycle: float | None = None
        self._last_update: float | None = None
        self._metrics_file = _open(folder / "metrics.jsonl", resumed and resumed.metrics_bytes)
        self._journal_file = _open(folder / "journal", resumed and resumed.journal_bytes)
        if resumed is None:
            self._journal_file.write(header_bytes(header))
            # Even if the run never writes more, it leaves a readable journal.
            self._journal_file.flush()
            self._header_bytes = len(header_bytes(header))
        else:
            self._header_bytes = resumed.journal_bytes - RECORD_SIZE * journal.length
        self.training_solved_seconds = resumed.training_solved_seconds if resumed else None
        self.training_solved_steps = resumed.training_solved_steps if resumed else None
        self.solved_at_steps = resumed.solved_at_steps if resumed else None
        self.run_state: tuple[RunState, int, Solved] | None = None
        """The latest state without a checkpoint, the size of the metrics file before it, and what
        had been solved by then."""

    @property
    def training_began(self) -> bool:
        """Whether a worker has begun its first cycle."""
        return self._first_cycle is not None

    @property
    def started(self) -> float:
        """Monotonic time at which the process started."""
        return self._started

    @property
    def training_seconds(self) -> float:
        """Seconds from the first cycle to the last accepted update, over all resumptions."""
        before = self._before.training_seconds if self._before else 0.0
        if self._first_cycle is None or self._last_update is None:
            return before
        return before + max(0.0, self._last_update - self._first_cycle)

    @property
    def span(self) -> tuple[float, float] | None:
        """Monotonic times of this process's first cycle and last accepted update."""
        if self._first_cycle is None or self._last_update is None:
            return None
        return self._started + self._first_cycle, self._started + self._last_update

    @property
    def wall_seconds(self) -> float:
        """Seconds since the process started, plus those of earlier processes of the run."""
        before = self._before.wall_seconds if self._before else 0.0
        return before + time.monotonic() - self._started

    def journal_bytes(self, records: int) -> int:
        """Size of the journal's file with this many records."""
        return self._header_bytes + RECORD_SIZE * records

    def __call__(self, when: float, event: Event) -> None:
        """Record an event."""
        self._time(when, event)
        row = self._row(event)
        if row is not None:
            self._rows.append(json.dumps({"wall_time": round(when, 6), **row}) + "\n")
        if isinstance(event, CheckpointReady):
            self._write_rows()
            solved = Solved(
                self.solved_at_steps, self.training_solved_seconds, self.training_solved_steps
            )
            self.run_state = event.run_state, self._metrics_file.tell(), solved
            self._was_cut = True

    def flush(self) -> None:
        """Write the recorded events and journal records.

        Raises:
            OSError: for example, the disk is full.
        """
        self._write_rows()
        self._journal_file.write(self._journal.drain())
        self._journal_file.flush()
        if self._was_cut:
            # After a power failure, no checkpoint may be ahead of the files that it refers to.
            self._was_cut = False
            for file in (self._metrics_file, self._journal_file):
                os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files."""
        # Closing a file writes its buffer, which may fail again: then still close the other one.
        with self._journal_file, self._metrics_file:
            pass

    def _write_rows(self) -> None:
        # If the disk is full, some rows may have been written: do not write them twice.
        rows, self._rows = self._rows, []
        self._metrics_file.write("".join(rows).encode())
        self._metrics_file.flush()

    def _time(self, when: float, event: Event) -> None:
        match event:
            case Joined():
                if self._first_cycle is None:
                    self._first_cycle = when
            case Updated():
                self._last_update = when
            case Evaluated():
                if event.result.solved and self.solved_at_steps is None:
                    self.solved_at_steps = event.steps
            case TrainingSolved():
                self.training_solved_seconds = round(when, 6)
                self.training_solved_steps = event.steps

    def _row(self, event: Event) -> dict[str, Any] | None:
        """Return the row that records an event; None if it has none."""
        if isinstance(event, Updated) and event.update % self._record_every:
            return None
        if isinstance(event, EpisodeFinished | Updated | Evaluated | Rejected):
            return event_to_json(event)
        return None


def _open(path: Path, keep: int | None) -> IO[bytes]:
    """Open a new file, or an old one truncated to its first ``keep`` bytes, for appending."""
    if keep is None:
        return path.open("xb")
    file = open_to_change(path)
    file.truncate(keep)
    file.seek(keep)
    return file
