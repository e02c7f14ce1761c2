"""Deadlines for what may hang.

It is done in the main thread, if that is the calling one, where a watchdog interrupts it; and
otherwise in a thread that can be left behind.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from poise.envs.watchdog import Watchdog, can_interrupt
from poise.errors import EnvironmentCheckError

__all__ = ["BackgroundCall", "run_with_deadline"]


INTERVAL = 0.05
"""Seconds between two looks at the clock."""


def run_with_deadline(
    work: Callable[[], Any],
    timeout: float,
    name: str,
    describe_activity: Callable[[], str] = str,
    elsewhere: bool = False,
) -> Any:
    """Run something that may hang.

    Args:
        work: what may hang.
        timeout: seconds.
        name: of the environment.
        activity: what it was doing.
        elsewhere: do it in another thread, even where the calling one can be interrupted.

    Raises:
        EnvironmentCheckError: it did not come back in time.
    """

    def overdue() -> EnvironmentCheckError:
        where = describe_activity()
        return EnvironmentCheckError(
            f"the environment {name} has not answered for {timeout:g} s (--worker-timeout)"
            + (f"; {where}" if where else "")
            + ": does its constructor, reset or step wait for something?"
        )

    if elsewhere or not can_interrupt():
        background_call = BackgroundCall(work)
        if not background_call.is_done(timeout):
            raise overdue()
        return background_call.outcome()
    end = time.monotonic() + timeout
    with Watchdog(lambda: overdue() if time.monotonic() > end else None, INTERVAL) as watchdog:
        return watchdog.run(work)


class BackgroundCall:
    """Work that may hang, in a thread that can be left behind.

    Args:
        work: what is done; it begins at once.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._outcome: list[Any] = []
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_done(self, patience: float) -> bool:
        """Whether it is over, after this many seconds at most."""
        self._thread.join(patience)
        return not self._thread.is_alive()

    def outcome(self) -> Any:
        """What came of work that is done: it is returned, or raised."""
        if self._failure:
            # Not kept: an exception leads to the frames that it came through, and they lead here.
            raise self._failure.pop()
        return self._outcome[0]

    def _run(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:
            self._failure.append(error)
