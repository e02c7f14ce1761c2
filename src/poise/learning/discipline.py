"""How the workers' updates meet.

Asynchronous: each is applied as it comes (Mnih et al. 2016, arXiv 1602.01783). Synchronous: all
workers are waited for, and what they bring is one batch (A2C, PPO); one that leaves is not waited
for any longer. Batched: nobody waits, and so many updates, whosoever they are, are one batch
(IMPALA; Espeholt et al. 2018, arXiv 1802.01561).
"""

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from poise.trajectory import Gradient

__all__ = ["DISCIPLINES", "Discipline", "DisciplineName", "mean_gradient"]

DisciplineName = Literal["asynchronous", "synchronous", "batched"]


@runtime_checkable
class Discipline(Protocol):
    """When the updates that have come are applied."""

    @property
    def batches(self) -> bool:
        """Whether an update may have to wait for others."""

    @property
    def answers_at_once(self) -> bool:
        """Whether a worker goes on before its update is applied."""

    def is_complete(self, pending: Sequence[int], workers: Collection[int]) -> bool:
        """Whether what has come is applied now.

        Args:
            pending: whose updates have come, one at least.
            workers: who takes part, whether there already or not.
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
    """The mean of gradients, summed in the order given; of one, itself.

    The order of a sum is a part of its result: workers are given in the order of their numbers.
    """
    if len(gradients) == 1:
        return gradients[0]
    total = np.zeros_like(np.asarray(gradients[0].vector))
    for gradient in gradients:
        total += np.asarray(gradient.vector)
    total /= np.float32(len(gradients))
    norm = np.sqrt(np.sum(np.square(total), dtype=np.float64))
    return Gradient(total, np.float32(norm))
