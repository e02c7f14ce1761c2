"""Factories of a run's workers: in this process, or wherever a launcher sends the factory."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from poise.launchers.mailbox import MailboxShape
from poise.learning.worker import Worker

__all__ = ["RemoteWorkerFactory", "WorkerFactory"]

RemoteWorkerFactory = Callable[[int, int], Worker]
"""(index, generation) -> a worker, ready to cycle. It is pickled, and called where the worker will
run; it is a `PlayerFactory` if its workers can play in evaluations."""


@runtime_checkable
class WorkerFactory(Protocol):
    """Makes the workers of a run."""

    def local(self, index: int, generation: int) -> Worker:
        """Make a worker in this process; its programs must have been compiled."""

    def remote(self) -> RemoteWorkerFactory:
        """Return a factory that makes and compiles workers in their own processes."""

    def mailbox_shape(self) -> MailboxShape:
        """Return the sizes of the messages between such a worker and the server."""
