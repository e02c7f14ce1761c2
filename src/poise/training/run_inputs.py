"""Inputs of a run besides its components: its folder, its audience, and where it resumes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from poise.observers.callback import Callbacks, Observer
from poise.reports.plot_run import Draw
from poise.storage.checkpoints.store import Checkpoint

__all__ = ["Audience", "ResumePoint", "RunPlace"]


class RunPlace(NamedTuple):
    """Location of a run's files.

    Attributes:
        folder: the run's folder, which holds ``config.json``.
        is_new: the folder was made for this run, and is removed if the run cannot begin.
        keep: whether the folder remains after the run; if not, no learning curve is drawn.
    """

    folder: Path
    is_new: bool = False
    keep: bool = True

    def if_kept(self, text: str) -> str:
        """Return the text, part of a message about the run's files, only if they are kept."""
        return text if self.keep else ""


class Audience(NamedTuple):
    """Recipients of a run's events and output.

    Attributes:
        quiet: print nothing.
        callbacks: the user's own, which may raise.
        observers: poise's own; called with each event in the main thread.
        draw: draws the learning curve; by default in this process.
        preset: name of the preset that the settings come from, in part; the output begins with it.
    """

    quiet: bool
    callbacks: Callbacks
    observers: Sequence[Observer] = ()
    draw: Draw | None = None
    preset: str | None = None


class ResumePoint(NamedTuple):
    """The point from which a run resumes.

    Attributes:
        checkpoint: the checkpoint.
        changed: whether the budgets differ from those of the checkpoint.
    """

    checkpoint: Checkpoint
    changed: bool = False

    def generations(self) -> dict[int, int]:
        """Return each worker's first generation: a new one if the worker's state is lost."""
        run_state = self.checkpoint.run_state
        records = run_state.worker_records
        return {
            worker: latest + (worker not in records or records[worker].worker_state is None)
            for worker, latest in run_state.generations.items()
        }
