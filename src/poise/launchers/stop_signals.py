"""Ctrl-C, SIGTERM, SIGHUP: the first stops and saves the run, a second one ends the process."""

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
    """A handler that raises KeyboardInterrupt, as Python's own does, and records that it did."""

    def __init__(self) -> None:
        self.happened = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle Ctrl-C during a command, even if something swallows the KeyboardInterrupt.

    Python drops an exception that a handler raises inside a destructor or a callback of the garbage
    collector, and prints a traceback, which is hidden here because it helps nobody. A run that
    starts later sees that Ctrl-C was pressed.
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
    """Restore the signal handlers on exit: environments may install some and not restore them all.

    Each copy may restore the handlers that it found, but copies are seldom closed in reverse order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: a handler that was not installed from Python.
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


class StopSignals:
    """Turns signals into a reason to stop; outside the main thread it does nothing.

    Ignored signals, such as SIGHUP under nohup, stay ignored.
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
        """Reinstall the handlers if an environment has replaced them."""
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
