"""The batch of updates that the server has received but not learned from yet."""

from typing import Any, NamedTuple

import numpy as np

from poise.learning.discipline import Discipline
from poise.trajectory import Gradient, WorkerUpdate

__all__ = ["PendingBatch", "Received"]


class Received(NamedTuple):
    """A received update, with its worker's state."""

    worker: int
    worker_update: WorkerUpdate
    worker_state: Any
    is_finite: bool


class PendingBatch:
    """Collects updates until the discipline finds the batch complete.

    Args:
        discipline: when a batch is complete, and who waits for it.
        workers: number of workers that take part, including those that have not joined yet.
    """

    def __init__(self, discipline: Discipline, workers: int) -> None:
        self._discipline = discipline
        self._workers = workers
        self._received: list[Received] = []
        self.lost: set[int] = set()
        """Workers that will not be started again; nobody waits for them."""

    def __bool__(self) -> bool:
        return bool(self._received)

    def add(self, received: Received) -> None:
        """Add an update; its gradient is copied if the worker may overwrite it."""
        if self._discipline.answers_at_once:
            received = received._replace(worker_update=_copied(received.worker_update))
        self._received.append(received)

    def awaits_answer(self, worker: int) -> bool:
        """Return whether a worker has sent an update and waits for the batch."""
        if self._discipline.answers_at_once:
            return False
        return any(one.worker == worker for one in self._received)

    def drop(self, worker: int) -> None:
        """Remove the update of a worker that left while it waited for the batch."""
        if not self._discipline.answers_at_once:
            self._received = [one for one in self._received if one.worker != worker]

    def complete(self) -> list[Received] | None:
        """Return the updates in the order of summation; None if the batch is not complete.

        Floating-point sums depend on the order, so updates of workers that wait are sorted by the
        workers' numbers.
        """
        awaited = [worker for worker in range(self._workers) if worker not in self.lost]
        if not self._discipline.is_complete([one.worker for one in self._received], awaited):
            return None
        if self._discipline.answers_at_once:
            return list(self._received)
        return sorted(self._received, key=lambda one: one.worker)

    def clear(self) -> None:
        """Begin the next batch."""
        self._received = []


def _copied(worker_update: WorkerUpdate) -> WorkerUpdate:
    """Copy a gradient out of memory that its worker will overwrite with its next one."""
    payload = worker_update.payload
    if not isinstance(payload, Gradient):
        return worker_update
    return worker_update._replace(payload=payload._replace(vector=np.array(payload.vector)))
