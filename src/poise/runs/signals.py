"""Ctrl-C and SIGTERM: the first ends the run saved, a second one ends the process."""

import signal
import threading
from types import FrameType, TracebackType

from poise.learning.journal import StopReason

__all__ = ["StopSignals"]

_REASONS = {signal.SIGINT: StopReason.INTERRUPTED, signal.SIGTERM: StopReason.TERMINATED}


class StopSignals:
    """Turns the two signals into a reason to stop; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in _REASONS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.reason = _REASONS[signal.Signals(number)]
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
