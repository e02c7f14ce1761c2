"""What a run spent its time on: seconds of compilation, selection, verification and baseline."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Literal

__all__ = ["Phase", "PhaseTimes"]

Phase = Literal["compilation", "selection", "verification", "baseline"]


class PhaseTimes:
    """A watch for each phase. What is measured here is reported, and decides nothing.

    Args:
        clock: seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spans: list[tuple[Phase, float, float]] = []

    @contextlib.contextmanager
    def on(self, phase: Phase) -> Iterator[None]:
        """What is done within is of this phase, however it ends."""
        began = self._clock()
        try:
            yield
        finally:
            self._spans.append((phase, began, self._clock()))

    def seconds(self, *phases: Phase, until: float = float("inf")) -> float:
        """Seconds of these phases, of what had ended by a time of the clock."""
        return sum(
            end - begin for phase, begin, end in self._spans if phase in phases and end <= until
        )
