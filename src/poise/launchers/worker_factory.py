"""What makes a run's workers: in this process, or wherever a launcher sends what makes them."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from poise.launchers.mailbox import MailboxShape
from poise.learning.worker import Worker

__all__ = ["RemoteWorkerFactory", "WorkerFactory"]

RemoteWorkerFactory = Callable[[int, int], Worker]
"""(index, generation) -> a worker, ready to cycle. Pickled, and called where the worker will run;
a `PlayerFactory` if its workers can play in evaluations."""


@runtime_checkable
class WorkerFactory(Protocol):
    """Makes the workers of a run."""

    def local(self, index: int, generation: int) -> Worker:
        """Make a worker in this process, of programs that are compiled."""

    def remote(self) -> RemoteWorkerFactory:
        """What makes and compiles workers in processes of their own."""

    def mailbox_shape(self) -> MailboxShape:
        """What such a worker and the server send each other."""
