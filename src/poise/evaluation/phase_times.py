"""Times of a run's phases: seconds of compilation, selection, verification and baseline."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

__all__ = ["Phase", "PhaseTimes"]

Phase = Literal["compilation", "selection", "verification", "baseline"]


class PhaseTimes:
    """A stopwatch for each phase. The times are only reported; no decision depends on them.

    Args:
        clock: returns seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spans: list[tuple[Phase, float, float]] = []

    @contextlib.contextmanager
    def on(self, phase: Phase) -> Iterator[None]:
        """Count the time within this context to a phase, even if an exception ends it."""
        began = self._clock()
        try:
            yield
        finally:
            self._spans.append((phase, began, self._clock()))

    def seconds(self, *phases: Phase, until: float = float("inf")) -> float:
        """Return the seconds of these phases that had ended by a time of the clock."""
        return sum(
            end - begin for phase, begin, end in self._spans if phase in phases and end <= until
        )
