"""Supervision: how a run monitors its workers, and the signs of life that it expects from them."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from poise.envs.watchdog import leave
from poise.errors import DeadlineError, PoiseError
from poise.launchers.evaluation_helpers import EvaluationHelpers
from poise.launchers.restart_policy import RestartPolicy
from poise.learning.journal import StopReason

__all__ = ["CLOSE_SECONDS", "EVALUATION", "Heartbeats", "Notices", "Supervision"]

CLOSE_SECONDS = 10.0
"""Seconds an environment may take to close."""

EVALUATION = -1
"""Stands in place of a worker's number for the evaluation that is currently running."""
_NO_RESTARTS = RestartPolicy()
"""Safe to share, because it never counts a restart."""


class Notices(NamedTuple):
    """Callbacks for what happens to workers.

    Attributes:
        on_restart: called when a worker is restarted, with its number, its new generation, and
            what happened.
        on_loss: called with what happened, when the run continues without a worker.
        on_unclosed: called with what happened, when a worker has not closed its environments in
            time.
    """

    on_restart: Callable[[int, int, str], None] = print
    on_loss: Callable[[str], None] = print
    on_unclosed: Callable[[str], None] = print


class Supervision(NamedTuple):
    """Settings by which a run monitors its workers, in the main thread (or where it was called).

    Attributes:
        pump: called every ``interval`` while workers run; returns a reason to stop, or None.
        interval: seconds between two calls.
        worker_timeout: seconds without a sign of life after which a worker counts as hung.
        environment: the environment's name, for error messages.
        restart_policy: which workers are restarted; by default none.
        notices: callbacks for what happens to workers.
        close_timeout: seconds that a worker may take to close its environments.
        is_stopping: whether a stop has been requested; called from any thread.
        give_up: called with an error if the main thread hangs forever; ends the process.
        evaluating: describes what the current evaluation is doing, for reports of a hang.
        offer_helpers: called with what the workers offer while the server evaluates.
        keep: whether the saved files remain after the run.
    """

    pump: Callable[[], StopReason | None]
    interval: float
    worker_timeout: float
    environment: str
    restart_policy: RestartPolicy = _NO_RESTARTS
    notices: Notices = Notices()
    close_timeout: float = CLOSE_SECONDS
    is_stopping: Callable[[], bool] = bool
    give_up: Callable[[PoiseError], None] = leave
    evaluating: Callable[[], str] = str
    offer_helpers: Callable[[EvaluationHelpers], None] = lambda helpers: None
    keep: bool = True

    def hung(self, who: int, where: str) -> DeadlineError:
        """Make the error for a worker or an evaluation that hangs.

        Args:
            who: the worker's number, or `EVALUATION`.
            where: description of where it hangs; empty if unknown.
        """
        if who == EVALUATION:
            what = f"an evaluation in {self.environment}"
        else:
            what = f"worker {who} in {self.environment}"
        if where:
            what += f" ({where})"
        return DeadlineError(
            f"{what} has not answered for {self.worker_timeout:g} s (--worker-timeout)",
            "what was learned so far is saved" if self.keep else "",
        )


class Heartbeats:
    """Time of the last sign of life of each worker, and of the current evaluation.

    Args:
        clock: returns seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[int, float] = {}
        self._lock = threading.Lock()

    def beat(self, who: int, grace: float = 0.0) -> None:
        """Record a sign of life; ``grace`` is extra time, in seconds, before silence counts."""
        with self._lock:
            self._last[who] = self._clock() + grace

    def leave(self, who: int) -> None:
        """Expect no more signs of life."""
        with self._lock:
            self._last.pop(who, None)

    def overdue(self, timeout: float) -> list[int]:
        """Return those that have been silent for more than ``timeout`` seconds."""
        with self._lock:
            now = self._clock()
            return [who for who, last in self._last.items() if now - last > timeout]
