"""Disciplines: how the updates of several workers are combined.

Asynchronous: each update is applied on arrival (Mnih et al. 2016, arXiv 1602.01783). Synchronous:
the server waits for all workers, and their updates form one batch (A2C, PPO); it stops waiting for
a worker that leaves for good. Batched: no worker waits, and as many updates as there are workers,
from any of them, form one batch (IMPALA; Espeholt et al. 2018, arXiv 1802.01561).
"""

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from poise.trajectory import Gradient

__all__ = ["DISCIPLINES", "Discipline", "DisciplineName", "mean_gradient"]

DisciplineName = Literal["asynchronous", "synchronous", "batched"]


@runtime_checkable
class Discipline(Protocol):
    """Decides when the received updates are applied."""

    @property
    def batches(self) -> bool:
        """Whether an update may have to wait for others."""

    @property
    def answers_at_once(self) -> bool:
        """Whether a worker continues before its update is applied."""

    def is_complete(self, pending: Sequence[int], workers: Collection[int]) -> bool:
        """Return whether the pending updates are to be applied now.

        Args:
            pending: the worker of each pending update; not empty.
            workers: all workers that take part, including those that have not joined yet.
        """


class _Asynchronous:
    batches, answers_at_once = False, False

    def is_complete(self, pending: Sequence[int], workers: Collection[int]) -> bool:
        del pending, workers
        return True


class _Synchronous:
    batches, answers_at_once = True, False

    def is_complete(self, pending: Sequence[int], workers: Collection[int]) -> bool:
        return all(worker in pending for worker in workers)


class _Batched:
    batches, answers_at_once = True, True

    def is_complete(self, pending: Sequence[int], workers: Collection[int]) -> bool:
        return len(pending) >= max(1, len(workers))


DISCIPLINES: dict[DisciplineName, Discipline] = {
    "asynchronous": _Asynchronous(),
    "synchronous": _Synchronous(),
    "batched": _Batched(),
}


def mean_gradient(gradients: Sequence[Gradient]) -> Gradient:
    """Return the mean of gradients; a single gradient is returned unchanged.

    Floating-point sums depend on the order of summation, so the caller must pass the gradients in a
    fixed order (that of the workers' numbers).
    """
    if len(gradients) == 1:
        return gradients[0]
    total = np.zeros_like(np.asarray(gradients[0].vector))
    for gradient in gradients:
        total += np.asarray(gradient.vector)
    total /= np.float32(len(gradients))
    norm = np.sqrt(np.sum(np.square(total), dtype=np.float64))
    return Gradient(total, np.float32(norm))
