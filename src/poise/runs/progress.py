"""What a user sees while a run goes on: a live display in a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from poise.config import TrainConfig
from poise.learning.events import EpisodeFinished, Evaluated, Event, Joined, Stopped, Updated

__all__ = ["Progress"]

PLAIN_INTERVAL = 5.0
"""Seconds between two lines where the output is no terminal."""
LIVE_INTERVAL = 0.1
"""Seconds between two updates of the live display."""


class Progress:
    """Steps and steps/s, episodes, the moving average against the target, a bar to the budget.

    A subscriber of the run's events; call `close` when the run is over.
    """

    def __init__(self, config: TrainConfig, target_return: float | None) -> None:
        self._config = config
        self._target = target_return
        self._latest: EpisodeFinished | None = None
        self._steps = 0
        self._began: float | None = None
        self._activity = ""
        self._next = time.monotonic()
        self._live: Any = None
        self._task: Any = None
        # Training goes on when nobody reads what it prints.
        self._mute = sys.stdout is None or sys.stdout.closed
        if not self._mute and sys.stdout.isatty():
            self._open_live()

    def __call__(self, when: float, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Joined():
                if self._began is None:
                    self._began = when
            case EpisodeFinished():
                self._latest = event
            case Updated():
                self._steps = event.steps
                if time.monotonic() >= self._next:
                    self._show(when)
            case Evaluated():
                self._say(self._describe_evaluation(event))
            case Stopped():
                self._show(when)

    def tell(self, activity: str) -> None:
        """Show what training waits for; empty where it waits for nothing."""
        if activity and activity != self._activity and time.monotonic() >= self._next:
            self._activity = activity
            if self._live is not None:
                self._live.update(self._task, status=activity)
                self._next = time.monotonic() + LIVE_INTERVAL
            else:
                self._print(f"{self._config.environment}  {activity}")
                self._next = time.monotonic() + PLAIN_INTERVAL

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open_live(self) -> None:
        # Only for terminals, and not needed before the first compilation has begun.
        from rich import progress  # noqa: PLC0415

        self._live = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.fields[status]}"),
            refresh_per_second=8,
        )
        self._live.start()
        self._task = self._live.add_task(
            self._config.environment, total=self._config.max_steps, status="compiling"
        )

    def _show(self, when: float) -> None:
        status = self._status(when)
        if self._live is not None:
            self._live.update(self._task, completed=self._steps, status=status)
            self._next = time.monotonic() + LIVE_INTERVAL
        else:
            self._print(f"{self._config.environment}  {status}")
            self._next = time.monotonic() + PLAIN_INTERVAL

    def _status(self, when: float) -> str:
        seconds = max(when - (self._began or when), 1e-3)
        budget = f" of {self._config.max_steps:,}" if self._config.max_steps else ""
        parts = [f"{self._steps:,}{budget} steps", f"{self._steps / seconds:,.0f} steps/s"]
        if self._latest is not None:
            parts.append(f"{self._latest.episode:,} episodes")
            against = "" if self._target is None else f" / {self._target:g}"
            parts.append(f"average {self._latest.moving_average:.1f}{against}")
        return "  ".join(parts)

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, highlight=False)
        else:
            self._print(line)

    def _print(self, line: str) -> None:
        if self._mute:
            return
        try:
            print(line, flush=True)
        except (OSError, ValueError):
            self._mute = True

    def _describe_evaluation(self, event: Evaluated) -> str:
        verdict = event.verdict
        text = f"  at {event.steps:,} steps the greedy policy reaches {verdict.selection.mean:.1f}"
        if verdict.verification is not None:
            outcome = "solved" if verdict.solved else "not yet solved"
            score = verdict.verification
            text += f"; verified on {score.episodes} fresh episodes: {score.mean:.1f}, {outcome}"
        return text
