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
NAME_WIDTH = 16
"""Letters of the environment's name in the live display."""
BAR_WIDTH = 12


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
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=BAR_WIDTH),
            progress.TextColumn("{task.fields[status]}", markup=False),
            refresh_per_second=8,
        )
        self._live.start()
        name = self._config.environment
        if len(name) > NAME_WIDTH:
            name = name[: NAME_WIDTH - 1] + "…"
        self._task = self._live.add_task(name, total=1.0, status="compiling")

    def _show(self, when: float) -> None:
        if self._live is not None:
            used = self._used(when)
            self._live.update(self._task, completed=used, status=self._short_status(when, used))
            self._next = time.monotonic() + LIVE_INTERVAL
        else:
            self._print(f"{self._config.environment}  {self._status(when)}")
            self._next = time.monotonic() + PLAIN_INTERVAL

    def _used(self, when: float) -> float:
        """The share of the budget that is used up first, from 0 to 1."""
        config, episodes = self._config, 0 if self._latest is None else self._latest.episode
        shares = [
            done / limit
            for done, limit in (
                (self._steps, config.max_steps),
                (episodes, config.max_episodes),
                (when - (self._began or when), config.max_seconds),
            )
            if limit
        ]
        return min(1.0, max(shares, default=0.0))

    def _short_status(self, when: float, used: float) -> str:
        """What fits into one line of 80 columns beside name and bar."""
        seconds = max(when - (self._began or when), 1e-3)
        budget = f"/{_short(self._config.max_steps)}" if self._config.max_steps else ""
        parts = [f"{_short(self._steps)}{budget}", f"{_short(self._steps / seconds)}/s"]
        if self._latest is not None:
            against = "" if self._target is None else f"/{self._target:.5g}"
            parts.append(f"avg {_short(self._latest.moving_average)}{against}")
        if 0.0 < used < 1.0:
            left = round(seconds * (1.0 - used) / used)
            parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        return " ".join(parts)

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
        mode = self._config.policy
        text = f"  at {event.steps:,} steps the {mode} policy reaches {verdict.selection.mean:.1f}"
        score = verdict.reported
        if score is not None:
            outcome = "solved" if verdict.solved else "not yet solved"
            text += f"; verified on {score.episodes} fresh episodes: {score.mean:.1f}, {outcome}"
        return text


def _short(number: float) -> str:
    """At most seven letters: 950, 12.3k, 1.20M, -0.0123."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= unit:
            return f"{number / unit:.3g}{letter}" if abs(number) < 1e12 else f"{number:.1e}"
    return f"{number:.4g}" if abs(number) >= 1e-3 or not number else f"{number:.1e}"
