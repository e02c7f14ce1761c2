"""A watchdog over the main thread: what takes too long there is interrupted by an exception.

Many environments are bound to the thread that made them: they install signal handlers, run an event
loop or hold a connection to a database. So what belongs to an environment is done in the main
thread wherever that is possible, and a second thread looks at the clock.
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
"""How often the exception is raised: whoever hangs may catch it, and go on."""
PATIENCE = 5.0
"""Seconds between two tries."""
_SIGNAL = getattr(signal, "SIGURG", None)
"""By default it is ignored, and hardly anybody uses it."""


def can_interrupt() -> bool:
    """Whether what the calling thread does can be interrupted: in the main thread only."""
    return _SIGNAL is not None and threading.current_thread() is threading.main_thread()


def leave(error: PoiseError) -> None:
    """End the process: its main thread hangs where no exception reaches it."""
    print(f"poise: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)


class _OverdueError(BaseException):
    """Raised inside what takes too long; no ``except Exception`` of an environment's holds it."""


class Watchdog:
    """Interrupts the main thread, from which it is made and used as a context manager.

    Args:
        look: called again and again, in another thread; returns an error if what is done takes too
            long. It must need no lock that the main thread may hold for long.
        interval: seconds between two looks.
        give_up: what to do, in that thread, where no exception reaches the main thread, as in a
            call of a C library; it should end the process.
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
        self._done = threading.Event()
        self._work = 0
        """Number of the work under way; 0 where there is none."""
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
        self._done.set()
        self._thread.join()
        assert _SIGNAL is not None, "see can_interrupt"
        signal.signal(_SIGNAL, self._previous or signal.SIG_DFL)
        del self._previous

    def run(self, work: Callable[[], Result]) -> Result:
        """Do something that may take too long.

        Raises:
            PoiseError: what ``look`` said of it.
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
        # In the main thread: whether work is under way cannot change meanwhile.
        if self._work and self._error is not None:
            self._raised = True
            raise _OverdueError

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
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
        """Whether some work has ended, after a while at most."""
        pauses = range(max(1, round(PATIENCE / self._interval)))
        return any(self._work != work or self._done.wait(self._interval) for _ in pauses)
