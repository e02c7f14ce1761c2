"""What a run is given beside its components: a place, an audience, perhaps a point to resume at."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from poise.observers.callback import Callbacks, Observer
from poise.reports.plot_run import Draw
from poise.storage.checkpoints.store import Checkpoint

__all__ = ["Audience", "ResumePoint", "RunPlace"]


class RunPlace(NamedTuple):
    """Where a run's files are.

    Attributes:
        folder: of the run; ``config.json`` is there.
        is_new: the folder was made for this run, and is removed if it cannot begin.
        keep: whether the folder outlives the run; if not, no learning curve is drawn.
    """

    folder: Path
    is_new: bool = False
    keep: bool = True

    def if_kept(self, said: str) -> str:
        """Part of a message about files that may outlive the run."""
        return said if self.keep else ""


class Audience(NamedTuple):
    """Who sees what happens in a run.

    Attributes:
        quiet: print nothing.
        callbacks: the user's own, which may raise.
        observers: poise's own, told of each event in the main thread.
        draw: draws the learning curve; by default in this process.
    """

    quiet: bool
    callbacks: Callbacks
    observers: Sequence[Observer] = ()
    draw: Draw | None = None


class ResumePoint(NamedTuple):
    """Where a run goes on.

    Attributes:
        checkpoint: from which.
        changed: the budgets are not those of the checkpoint.
    """

    checkpoint: Checkpoint
    changed: bool = False

    def generations(self) -> dict[int, int]:
        """Which generation each worker begins with: the next, where its state is lost."""
        run_state = self.checkpoint.run_state
        records = run_state.worker_records
        return {
            worker: latest + (worker not in records or records[worker].worker_state is None)
            for worker, latest in run_state.generations.items()
        }
