"""The dispatcher: passes a run's events on to everybody who observes it, in one order.

Workers' threads put events into memory; the main thread passes them on.
"""

import collections
import contextlib
import time
from collections.abc import Sequence

from poise.learning.events import Event
from poise.observers.callback import Callbacks, Observer
from poise.observers.recorder import Recorder
from poise.user_warnings import warn_caller

__all__ = ["Dispatcher"]


class Dispatcher:
    """Stamps events with the time, and tells them.

    Args:
        started: monotonic time at which the process started.
        recorder: writes the run's records. It is told first, and what it raises ends the run.
        writer: writes the run's policies; likewise.
        observers: poise's own. The run goes on without one that raises.
        callbacks: the user's.
    """

    def __init__(
        self,
        started: float,
        recorder: Recorder,
        writer: Observer,
        observers: Sequence[Observer] = (),
        callbacks: Callbacks | None = None,
    ) -> None:
        self._started = started
        self._recorder = recorder
        self._writer = writer
        self._observers = list(observers)
        self._callbacks = callbacks or Callbacks()
        self._events: collections.deque[tuple[float, Event]] = collections.deque()

    def emit(self, event: Event) -> None:
        """Take an event; from any thread."""
        self._events.append((self._now(), event))

    def pump(self) -> None:
        """Tell what has come in; from the main thread.

        Raises:
            OSError: the disk is full, for example.
        """
        for _ in range(len(self._events)):
            when, event = self._events.popleft()
            self._recorder(when, event)
            self._writer(when, event)
            self._tell(when, event)
        self._recorder.flush()

    def close(self) -> None:
        """Tell the rest, and close the records."""
        with contextlib.closing(self._recorder):
            self.pump()

    def tell(self, event: Event) -> None:
        """Tell an event when the records are closed."""
        self._tell(self._now(), event)

    def _now(self) -> float:
        return time.monotonic() - self._started

    def _tell(self, when: float, event: Event) -> None:
        for observer in tuple(self._observers):
            try:
                observer(when, event)
            except Warning:
                # Where warnings are errors, they are meant to be.
                raise
            except Exception as error:
                self._observers.remove(observer)
                warn_caller(
                    f"the run goes on without {type(observer).__name__}, which raised "
                    f"{type(error).__name__}: {error}"
                )
        self._callbacks.tell(when, event)
