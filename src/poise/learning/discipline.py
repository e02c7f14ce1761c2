"""How the workers' updates meet.

Asynchronous: each is applied as it comes (Mnih et al. 2016, arXiv 1602.01783). Synchronous: all
workers are waited for, and the mean of their gradients is applied, as A2C does; one that leaves
is not waited for any longer.
"""

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from poise.trajectory import Gradient

__all__ = ["DISCIPLINES", "Discipline", "DisciplineName", "mean_gradient"]

DisciplineName = Literal["asynchronous", "synchronous"]


@runtime_checkable
class Discipline(Protocol):
    """When the updates that have come are applied."""

    @property
    def waits(self) -> bool:
        """Whether an update may have to wait for others."""

    def is_complete(self, pending: Collection[int], workers: Collection[int]) -> bool:
        """Whether what has come is applied now.

        Args:
            pending: whose updates have come, one at least.
            workers: who is waited for, whether there already or not.
        """


class _Asynchronous:
    waits = False

    def is_complete(self, pending: Collection[int], workers: Collection[int]) -> bool:
        del pending, workers
        return True


class _Synchronous:
    waits = True

    def is_complete(self, pending: Collection[int], workers: Collection[int]) -> bool:
        return all(worker in pending for worker in workers)


DISCIPLINES: dict[DisciplineName, Discipline] = {
    "asynchronous": _Asynchronous(),
    "synchronous": _Synchronous(),
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
