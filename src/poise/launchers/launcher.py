"""The launcher: runs workers against a server, in threads or in processes.

A launcher does the locking, the waiting and the deadlines; it knows neither the loss nor the run's
files. The rest of poise depends on a launcher's traits, not on its name.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from poise.config import LauncherName
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.worker_factory import WorkerFactory
from poise.learning.parameter_server import ParameterServer
from poise.learning.worker import Worker

__all__ = ["Launch", "Launcher", "LauncherTraits", "WorkerStart"]


class LauncherTraits(NamedTuple):
    """Properties of a launcher that the rest of poise depends on.

    Attributes:
        own_processes: each worker has its own process. It compiles its cycle and makes its
            environments there, and shares neither the GIL nor module state with another worker.
        imports_script: those processes import the user's script.
        several_threads: an environment is made in one thread and stepped in another.
        in_turn: only one worker steps at a time.
        plays_evaluations: workers can play the episodes of an evaluation.
    """

    own_processes: bool = False
    imports_script: bool = False
    several_threads: bool = False
    in_turn: bool = False
    plays_evaluations: bool = False

    def steps_in_turn(self, holds_gil: bool) -> bool:
        """Whether environments are stepped one worker at a time.

        Args:
            holds_gil: a step blocks all other threads of its process.
        """
        return self.in_turn or (holds_gil and not self.own_processes)


class WorkerStart(NamedTuple):
    """A worker to start.

    Attributes:
        worker: its number, from 0.
        generation: how many times it has been started before.
    """

    worker: int
    generation: int = 0


def _nothing() -> None:
    """Default for `conclude`: workers that do not play evaluations are not needed at the end."""


class Launch(NamedTuple):
    """What a launcher runs.

    Attributes:
        server: receives the workers' updates.
        factory: makes the workers.
        starts: the workers, in the order of their turns.
        supervision: how the run monitors its workers.
        heartbeats: where the workers' signs of life are recorded.
        conclude: called when the server has stopped, while workers that play evaluations are
            still running.
    """

    server: ParameterServer
    factory: WorkerFactory
    starts: Sequence[WorkerStart]
    supervision: Supervision
    heartbeats: Heartbeats
    conclude: Callable[[], object] = _nothing

    def local_workers(self) -> list[Worker]:
        """Make the workers in this process."""
        return [self.factory.local(*start) for start in self.starts]


@runtime_checkable
class Launcher(Protocol):
    """Runs workers."""

    @property
    def name(self) -> LauncherName:
        """The launcher's name, as used by ``--launcher``."""

    @property
    def traits(self) -> LauncherTraits:
        """Properties that the rest of poise depends on."""

    def run(self, launch: Launch) -> None:
        """Run workers until the server stops; only threads that hang remain afterwards.

        Raises:
            WorkerError: a worker failed, and the run cannot continue; the others were stopped.
            DeadlineError: a worker hung, and the run cannot continue.
            InputError: the launcher cannot start the workers.
        """
