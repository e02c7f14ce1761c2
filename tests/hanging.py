"""Deadlines that pass for code that hangs, but not for code that is only slow.

When something is about to hang, it adds a character to a file, which worker processes can do, too.
For each character the clock jumps, so every deadline expires, however long it is.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poise.envs import deadlines, trial_play
from poise.envs.deadlines import BackgroundCall
from poise.evaluation import supervision
from poise.launchers.supervision import Heartbeats
from poise.training import training_run

LEAP = 1e6
"""Seconds; far more than any deadline."""


def leap_at(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advance the clock whenever something hangs."""
    real = time.monotonic

    def hung() -> int:
        return mark.stat().st_size if mark.exists() else 0

    def clock() -> float:
        return real() + LEAP * hung()

    class LeapingErrand(BackgroundCall):
        """A call that begins after something has hung, such as closing, gets its full time."""

        def __init__(self, work: Callable[[], Any]) -> None:
            self._before = hung()
            super().__init__(work)

        def is_done(self, patience: float) -> bool:
            end = real() + patience
            while self._thread.is_alive() and real() < end and self._before == hung():
                self._thread.join(min(0.01, patience))
            return not self._thread.is_alive()

    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(training_run, "Heartbeats", _heartbeats_by(clock))
    for module in (trial_play, deadlines, supervision):
        monkeypatch.setattr(module, "BackgroundCall", LeapingErrand)


def _heartbeats_by(clock: Callable[[], float]) -> Callable[[], Heartbeats]:
    return lambda: Heartbeats(clock)
