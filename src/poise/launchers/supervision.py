"""Supervision: how a run watches over its launcher, and the signs of life that it looks for."""

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
"""How long an environment may take to close."""

EVALUATION = -1
"""Who is watched, in place of a worker's number, while an evaluation is under way."""
_NO_RESTARTS = RestartPolicy()
"""It never counts any, so that all may share it."""


class Notices(NamedTuple):
    """Who is told what became of workers.

    Attributes:
        on_restart: told whenever a worker is started again: its number, the generation that is
            started, and what happened.
        on_loss: told what happened, whenever the run goes on without a worker.
        on_unclosed: told what happened, whenever a worker has not closed its environments in time.
    """

    on_restart: Callable[[int, int, str], None] = print
    on_loss: Callable[[str], None] = print
    on_unclosed: Callable[[str], None] = print


class Supervision(NamedTuple):
    """How a run watches over its launcher, from the main thread (or where training was called).

    Attributes:
        pump: called every ``interval`` while workers run; returns a reason to stop, or None.
        interval: seconds between two calls.
        worker_timeout: seconds without a sign of life after which a worker counts as hung.
        environment: the environment's name, for error messages.
        restart_policy: which workers are started again; by default none.
        notices: who is told what became of them.
        close_timeout: seconds that a worker may take to close its environments.
        is_stopping: whether somebody has asked for the end; from any thread.
        give_up: what to do with an error where the main thread hangs for good; ends the process.
        evaluating: says what the evaluation under way does, for the report of a hang.
        offer_helpers: given what the workers offer while the server evaluates.
        keep: whether what is saved outlives the run.
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
        """The error for a worker that hangs, or for an evaluation.

        Args:
            who: the worker's number, or `EVALUATION`.
            where: it hangs; empty if unknown.
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
    """When each worker, and the evaluation under way, last gave a sign of life.

    Args:
        clock: seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[int, float] = {}
        self._lock = threading.Lock()

    def beat(self, who: int, grace: float = 0.0) -> None:
        """It is alive, and may be silent for ``grace`` seconds more than usual."""
        with self._lock:
            self._last[who] = self._clock() + grace

    def leave(self, who: int) -> None:
        """It is expected to be silent from now on."""
        with self._lock:
            self._last.pop(who, None)

    def watched(self) -> set[int]:
        """Of whom a sign of life is expected."""
        with self._lock:
            return set(self._last)

    def overdue(self, timeout: float) -> list[int]:
        """Who has been silent for longer than ``timeout`` seconds."""
        with self._lock:
            now = self._clock()
            return [who for who, last in self._last.items() if now - last > timeout]
