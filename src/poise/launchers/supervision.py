"""What every launcher is given, and what it gives back.

A launcher runs workers against an owner. It holds the locks, the waiting and the deadlines; it
knows neither the loss nor the files of a run.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from poise.learning.journal import StopReason

__all__ = ["Heartbeats", "Supervision"]


class Supervision(NamedTuple):
    """How a run watches over its launcher, from the main thread.

    Attributes:
        pump: called every ``interval`` while workers run; returns a reason to stop, or None.
        interval: seconds between two calls.
        worker_timeout: seconds without a sign of life after which a worker counts as hung.
        environment: the environment's name, for error messages.
        max_restarts: how many workers that died or hung may be started again.
        restart_on_error: start a worker again that raised, too.
        on_restart: told what happened, whenever a worker is started again.
    """

    pump: Callable[[], StopReason | None]
    interval: float
    worker_timeout: float
    environment: str
    max_restarts: int = 0
    restart_on_error: bool = False
    on_restart: Callable[[str], None] = print


class Heartbeats:
    """When each worker last gave a sign of life, by the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[int, float] = {}
        self._lock = threading.Lock()

    def beat(self, worker: int, grace: float = 0.0) -> None:
        """The worker is alive, and may be silent for ``grace`` seconds more than usual."""
        with self._lock:
            self._last[worker] = self._clock() + grace

    def beat_all(self) -> None:
        """Time has passed for a reason that is no worker's fault, such as an evaluation."""
        with self._lock:
            now = self._clock()
            self._last = {worker: max(last, now) for worker, last in self._last.items()}

    def leave(self, worker: int) -> None:
        """The worker is expected to be silent from now on."""
        with self._lock:
            self._last.pop(worker, None)

    def overdue(self, timeout: float) -> int | None:
        """A worker that has been silent for longer than ``timeout`` seconds, or None."""
        with self._lock:
            now = self._clock()
            for worker, last in self._last.items():
                if now - last > timeout:
                    return worker
        return None
