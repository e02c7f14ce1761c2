"""The dispatcher: passes a run's events to all observers, in one order.

Workers' threads append events to a queue; the main thread dispatches them.
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
    """Adds the time to events, and passes them on.

    Args:
        started: monotonic time at which the process started.
        recorder: writes the run's records. It is called first, and its errors end the run.
        writer: writes the run's policies; its errors end the run, too.
        observers: poise's own. An observer that raises is removed, and the run continues.
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
        """Queue an event; may be called from any thread."""
        self._events.append((self._now(), event))

    def pump(self) -> None:
        """Dispatch the queued events; must be called from the main thread.

        Raises:
            OSError: for example, the disk is full.
        """
        for _ in range(len(self._events)):
            when, event = self._events.popleft()
            self._recorder(when, event)
            self._writer(when, event)
            self._tell(when, event)
        self._recorder.flush()

    def close(self) -> None:
        """Dispatch the remaining events, and close the records."""
        with contextlib.closing(self._recorder):
            self.pump()

    def tell(self, event: Event) -> None:
        """Pass an event to observers and callbacks only; the records are closed already."""
        self._tell(self._now(), event)

    def _now(self) -> float:
        return time.monotonic() - self._started

    def _tell(self, when: float, event: Event) -> None:
        for observer in tuple(self._observers):
            try:
                observer(when, event)
            except Warning:
                # If warnings are turned into errors, let them through.
                raise
            except Exception as error:
                self._observers.remove(observer)
                warn_caller(
                    f"the run continues without {type(observer).__name__}, which raised "
                    f"{type(error).__name__}: {error}"
                )
        self._callbacks.tell(when, event)
