"""A watchdog for the main thread: interrupts calls that take too long, by an exception.

Many environments must be used in the thread that made them, because they install signal handlers,
run an event loop or hold a database connection. All calls to an environment are therefore made in
the main thread wherever possible, and a second thread watches the time.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeVar

from poise.errors import PoiseError

__all__ = ["Watchdog", "can_interrupt", "leave"]

Result = TypeVar("Result")

TRIES = 3
"""How often the exception is raised: the code that hangs may catch it and continue."""
PATIENCE = 5.0
"""Seconds between two tries."""
_SIGNAL = getattr(signal, "SIGURG", None)
"""The signal that interrupts the main thread; by default it is ignored, and it is rarely used."""


def can_interrupt() -> bool:
    """Return whether calls in this thread can be interrupted: only in the main thread."""
    return _SIGNAL is not None and threading.current_thread() is threading.main_thread()


def leave(error: PoiseError) -> None:
    """End the process, because its main thread hangs where no exception can reach it."""
    print(f"poise: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)


class _OverdueError(BaseException):
    """Raised inside a call that takes too long.

    It is a `BaseException`, so that an environment's ``except Exception`` does not catch it.
    """


class Watchdog:
    """Interrupts the main thread; to be made and used there, as a context manager.

    Args:
        look: called repeatedly in another thread; returns an error if the current call takes too
            long. It must not need a lock that the main thread may hold for long.
        interval: seconds between two calls of ``look``.
        give_up: called in that thread if no exception reaches the main thread, for example because
            it hangs in a C library; should end the process.
    """

    def __init__(
        self,
        look: Callable[[], PoiseError | None],
        interval: float,
        give_up: Callable[[PoiseError], None] = leave,
    ) -> None:
        self._look = look
        self._interval = interval
        self._give_up = give_up
        self.ended = threading.Event()
        """Set at the end of the context."""
        self._work = 0
        """Number of the current call; 0 if there is none."""
        self._begun = 0
        self._error: PoiseError | None = None
        self._raised = False
        self._main = threading.main_thread().ident
        self._thread = threading.Thread(target=self._watch, daemon=True, name="poise-watchdog")

    def __enter__(self) -> "Watchdog":
        assert _SIGNAL is not None, "see can_interrupt"
        self._previous = signal.signal(_SIGNAL, self._interrupt)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended.set()
        self._thread.join()
        assert _SIGNAL is not None, "see can_interrupt"
        signal.signal(_SIGNAL, self._previous or signal.SIG_DFL)
        del self._previous

    def run(self, work: Callable[[], Result]) -> Result:
        """Call a function that may take too long.

        Raises:
            PoiseError: the error that ``look`` returned.
        """
        self._raised = False
        self._begun += 1
        self._work = self._begun
        try:
            return work()
        except BaseException:
            error, self._error = self._error, None
            if self._raised and error is not None:
                raise error from None
            raise
        finally:
            self._work = 0

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # Runs in the main thread, so ``_work`` cannot change in between.
        if self._work and self._error is not None:
            self._raised = True
            raise _OverdueError

    def _watch(self) -> None:
        while not self.ended.wait(self._interval):
            work = self._work
            if not work:
                continue
            error = self._look()
            if error is None or self._work != work:
                continue
            self._error = error
            for _ in range(TRIES):
                assert _SIGNAL is not None, "see can_interrupt"
                assert self._main is not None, "it runs"
                signal.pthread_kill(self._main, _SIGNAL)
                if self._is_over(work):
                    break
            else:
                self._give_up(error)
                return

    def _is_over(self, work: int) -> bool:
        """Wait at most `PATIENCE` seconds; returns whether a call has ended."""
        pauses = range(max(1, round(PATIENCE / self._interval)))
        return any(self._work != work or self.ended.wait(self._interval) for _ in pauses)
