"""The records of a run: what happened, stamped with the time, in files that are only appended to.

Workers' threads put events into memory; the main thread writes them out.
"""

import collections
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from poise.learning.events import (
    EpisodeFinished,
    Evaluated,
    Event,
    Joined,
    Score,
    TrainingSolved,
    Updated,
)
from poise.learning.journal import Journal, header_bytes

__all__ = ["Recorder", "Subscriber", "score_to_json"]

Subscriber = Callable[[float, Event], None]
"""Called in the main thread with each event and its time, seconds since the process started."""


class Recorder:
    """Writes ``metrics.jsonl`` and ``journal`` in a run's folder.

    Args:
        folder: of the run.
        header: the journal's header.
        journal: where the owner writes its records.
        record_every: updates between two rows about updates.
        started: monotonic time at which the process started.
        subscribers: others who want to see the events.
    """

    def __init__(
        self,
        folder: Path,
        header: dict[str, Any],
        journal: Journal,
        record_every: int,
        started: float,
        subscribers: tuple[Subscriber, ...] = (),
    ) -> None:
        self._events: collections.deque[tuple[float, Event]] = collections.deque()
        self._journal = journal
        self._record_every = record_every
        self._started = started
        self._subscribers = subscribers
        self._metrics_file: IO[str] = (folder / "metrics.jsonl").open("x")
        self._journal_file: IO[bytes] = (folder / "journal").open("xb")
        self._journal_file.write(header_bytes(header))
        self.first_cycle: float | None = None
        """When the first worker was admitted."""
        self.last_update: float | None = None
        self.training_solved: tuple[float, TrainingSolved] | None = None
        self.solved_at_steps: int | None = None

    def emit(self, event: Event) -> None:
        """Take an event; from any thread."""
        self._events.append((time.monotonic() - self._started, event))

    def pump(self) -> None:
        """Write what has come in; from the main thread.

        Raises:
            OSError: the disk is full, for example.
        """
        rows = []
        for _ in range(len(self._events)):
            when, event = self._events.popleft()
            row = self._row(when, event)
            if row is not None:
                rows.append(json.dumps({"wall_time": round(when, 6), **row}) + "\n")
            for subscriber in self._subscribers:
                subscriber(when, event)
        self._metrics_file.write("".join(rows))
        self._metrics_file.flush()
        self._journal_file.write(self._journal.drain())
        self._journal_file.flush()

    def close(self) -> None:
        """Write the rest and close the files."""
        try:
            self.pump()
        finally:
            self._metrics_file.close()
            self._journal_file.close()

    def _row(self, when: float, event: Event) -> dict[str, Any] | None:
        match event:
            case Joined():
                if self.first_cycle is None:
                    self.first_cycle = when
            case EpisodeFinished():
                return {
                    "kind": "episode",
                    "episode": event.episode,
                    "steps": event.steps,
                    "worker": event.worker,
                    "return": event.episode_return,
                    "length": event.length,
                    "moving_average": event.moving_average,
                    "loss": event.loss,
                }
            case Updated():
                self.last_update = when
                if event.update % self._record_every:
                    return None
                return {"kind": "update", **event._asdict()}
            case Evaluated():
                verdict = event.verdict
                if verdict.solved and self.solved_at_steps is None:
                    self.solved_at_steps = event.steps
                verification = verdict.verification
                return {
                    "kind": "evaluation",
                    "version": event.version,
                    "steps": event.steps,
                    "selection": score_to_json(verdict.selection),
                    "verification": verification and score_to_json(verification),
                    "solved": verdict.solved,
                }
            case TrainingSolved():
                self.training_solved = (when, event)
        return None


def score_to_json(score: Score) -> dict[str, Any]:
    """A score as JSON types; what a single episode leaves undefined is null."""
    return {
        name: None if isinstance(value, float) and value - value != 0 else value
        for name, value in score._asdict().items()
    }
