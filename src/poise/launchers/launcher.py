"""The launcher: runs workers against a server, wherever they are.

A launcher holds the locks, the waiting and the deadlines; it knows neither the loss nor the files
of a run. What a run must know of a launcher are its traits, not its name.
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
    """What the rest of poise must know of a launcher.

    Attributes:
        own_processes: each worker has a process of its own. It compiles its cycle and makes its
            environments there, and shares neither the GIL nor a module's state with another worker.
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
            holds_gil: a step keeps all other threads of its process waiting.
        """
        return self.in_turn or (holds_gil and not self.own_processes)


class WorkerStart(NamedTuple):
    """A worker that is to be started.

    Attributes:
        worker: its number, from 0.
        generation: how often it has been started before.
    """

    worker: int
    generation: int = 0


def _nothing() -> None:
    """Workers that do not play in evaluations have no part in a run's end."""


class Launch(NamedTuple):
    """What a launcher runs.

    Attributes:
        server: takes what the workers bring.
        factory: makes the workers.
        starts: the workers, in the order of their turns.
        supervision: how the run watches.
        heartbeats: where the workers' signs of life are noted.
        conclude: called when the server has stopped, while workers that play in evaluations are
            still there.
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
        """As ``--launcher`` names it."""

    @property
    def traits(self) -> LauncherTraits:
        """What a run must know of it."""

    def run(self, launch: Launch) -> None:
        """Run workers until the server stops; none is left afterwards, but threads that hang.

        Raises:
            WorkerError: a worker failed, and the run cannot go on; the others have been stopped.
            DeadlineError: a worker hung, and the run cannot go on.
            InputError: the workers cannot be started where they are to run.
        """
