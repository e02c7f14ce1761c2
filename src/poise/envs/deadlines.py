"""Deadlines for calls that may hang.

In the main thread, the call runs directly and a watchdog interrupts it. In any other thread, the
call runs in a background thread, which is abandoned if it hangs.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from poise.envs.watchdog import Watchdog, can_interrupt
from poise.errors import EnvironmentCheckError

__all__ = ["BackgroundCall", "run_with_deadline"]


INTERVAL = 0.05
"""Seconds between two checks of the deadline."""


def run_with_deadline(
    work: Callable[[], Any],
    timeout: float,
    name: str,
    describe_activity: Callable[[], str] = str,
    elsewhere: bool = False,
) -> Any:
    """Run a function that may hang, with a deadline.

    Args:
        work: the function.
        timeout: seconds until it counts as hung.
        name: the environment's name, for the message.
        describe_activity: says what the environment was doing, for the message.
        elsewhere: whether to use a background thread even if the calling thread can be
            interrupted.

    Raises:
        EnvironmentCheckError: the function did not return in time.
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
    """A call in a background thread, which can be abandoned if it hangs.

    Args:
        work: the function to call; it starts immediately.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._outcome: list[Any] = []
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_done(self, patience: float) -> bool:
        """Wait up to this many seconds; returns whether the call has finished."""
        self._thread.join(patience)
        return not self._thread.is_alive()

    def outcome(self) -> Any:
        """Return the result of a finished call, or raise its exception."""
        if self._failure:
            # Popped to avoid a reference cycle: the exception refers to its frames, and they to
            # this object.
            raise self._failure.pop()
        return self._outcome[0]

    def _run(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:
            self._failure.append(error)
