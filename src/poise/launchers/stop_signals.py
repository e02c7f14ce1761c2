"""Ctrl-C, SIGTERM, a closed terminal: the first ends the run saved, a second ends the process."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

from poise.learning.journal import StopReason

__all__ = ["StopSignals", "handlers_kept", "interruptible"]

_REASONS = {signal.SIGINT: StopReason.INTERRUPTED, signal.SIGTERM: StopReason.TERMINATED}
if hasattr(signal, "SIGHUP"):
    _REASONS[signal.SIGHUP] = StopReason.TERMINATED


class _Interruption:
    """A handler that interrupts as Python's own does, and remembers that it did."""

    def __init__(self) -> None:
        self.happened = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Interrupt a command at Ctrl-C, even where the exception is swallowed on its way.

    Python drops an exception that a handler raises inside a destructor or a callback of the garbage
    collector, with a traceback that tells nobody anything and is not shown here; a run that begins
    later sees that it happened.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _Interruption())
    show = sys.unraisablehook
    sys.unraisablehook = lambda dropped: (
        None if issubclass(dropped.exc_type, KeyboardInterrupt) else show(dropped)
    )
    try:
        yield
    finally:
        sys.unraisablehook = show
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Leave the signal handlers as they were: environments may install some, and not all take back.

    Copies that restore, each, what they found are seldom closed in the opposite order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None is a handler that was not installed from Python.
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


class StopSignals:
    """Turns signals into a reason to stop; outside the main thread it does nothing.

    Signals that are ignored, as SIGHUP is under nohup, stay ignored.
    """

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number, reason in _REASONS.items():
            previous = signal.getsignal(number)
            if previous == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._handle)
            if isinstance(previous, _Interruption) and previous.happened:
                self.reason = reason
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def keep(self) -> None:
        """Take the signals back from environments that have installed handlers since."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._previous:
            if signal.getsignal(number) != self._handle:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.reason = _REASONS[signal.Signals(number)]
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
