"""Shared by all tests of launchers: fake workers, a real server, and a clock that a test moves.

No result depends on how long something takes.
"""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from poise.launchers.launcher import Launch, Launcher, WorkerStart
from poise.launchers.mailbox import MailboxShape
from poise.launchers.restart_policy import RestartPolicy
from poise.launchers.supervision import Heartbeats, Notices, Supervision
from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.learning.events import Event, Updated
from poise.learning.journal import Journal, Record, RecordKind, StopReason
from poise.learning.learner import GradientLearner
from poise.learning.parameter_server import ParameterServer, ServerSettings
from poise.trajectory import EpisodeReport, Gradient, Snapshot, WorkerUpdate

# Classes of this module are pickled by value: a worker's process cannot import a test.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ENVIRONMENT = "Fake-v0"
STEPS = 5
"""Environment steps in each update."""
PATIENCE = 120.0
"""Real seconds after which a test fails. No result depends on it."""
TIMEOUT = 1000.0
"""Seconds of the test's own clock, which stands still until the test moves it."""
METRICS = 5

Direct = Callable[[], StopReason | None]
"""Called by the launcher's pump; returns a reason to stop, or None."""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the test waits for something that never came"
        time.sleep(0.01)


def never() -> None:
    """Default pump: only the workers can end the run."""


def shape_of(parameters: int, state: Any = ()) -> MailboxShape:
    """Return the shape of mailboxes for the updates of fake workers."""
    return MailboxShape(parameters, METRICS, episodes=2, statistics=None, state=state)


def update_of(
    snapshot: Snapshot, value: float, returns: Sequence[float] = (), lie: int = 0
) -> WorkerUpdate:
    """Make an update whose gradient is one number, repeated for all parameters of the snapshot.

    Args:
        snapshot: the worker acted with it.
        value: small and whole, so that float32 sums are exact.
        returns: returns of the episodes that finished.
        lie: added to the version acted with.
    """
    size = len(np.asarray(snapshot.parameters))
    return WorkerUpdate(
        version=int(snapshot.version) + lie,
        payload=Gradient(np.full(size, value, np.float32), np.float32(0)),
        statistics=(),
        metrics=np.zeros(METRICS, np.float32),
        steps=STEPS,
        episodes=EpisodeReport(np.asarray(returns, np.float32), np.full(len(returns), 7, np.int32)),
    )


@dataclasses.dataclass(frozen=True)
class FakeWorker:
    """Counts its cycles; its state is that count. Can be pickled."""

    index: int = 0
    generation: int = 0
    is_checkpointable: bool = False

    @property
    def seed(self) -> int:
        return 1000 + self.index

    def initial_state(self) -> int:
        return 0

    def cycle(self, snapshot: Snapshot, state: int) -> tuple[WorkerUpdate, int]:
        return update_of(snapshot, self.index + 1), state + 1

    def describe_activity(self) -> str:
        return "the pole, last action 1"

    def close(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class FakeFactory:
    """Makes workers with a function, here or in a separate process."""

    make: Callable[[int, int], Any]
    shape: MailboxShape

    def local(self, index: int, generation: int) -> Any:
        return self.make(index, generation)

    def remote(self) -> Callable[[int, int], Any]:
        return self.make

    def mailbox_shape(self) -> MailboxShape:
        return self.shape


class Clock:
    """Moves only when told, plus a tiny amount at every reading, so that no two are equal."""

    def __init__(self) -> None:
        self.now = 0.0
        self._hairs = itertools.count()
        self.before: Callable[[], object] = lambda: None
        """Called before each reading, in the thread that reads."""

    def __call__(self) -> float:
        self.before()
        return self.now + next(self._hairs) * 1e-6


class KeptJournal(Journal):
    """Keeps its records for the test to read."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        self.records.append(record)
        super().append(record)


def _subtract(parameters: Any, state: Any, gradient: Any, norm: Any, rate: Any) -> tuple[Any, Any]:
    return parameters - rate * gradient, state


SETTINGS = ServerSettings(
    learning_rate=1.0,
    anneal_steps=None,
    max_steps=None,
    max_episodes=None,
    evaluation_interval=10**9,
    target_return=None,
    stop_when_solved=False,
)
"""Settings of a server that evaluates nothing, and stops only when told."""


class Stage:
    """A server, a record of its events, and all that a test needs to direct a launcher.

    Args:
        launcher: the launcher under test.
        parameters: number of the server's parameters.
        settings: the server's settings.
    """

    interval = 0.01
    """Seconds between two calls of the pump."""

    def __init__(
        self, launcher: Launcher, parameters: int, settings: ServerSettings = SETTINGS
    ) -> None:
        self._launcher = launcher
        self._parameters = parameters
        self.clock = Clock()
        self.events: list[Event] = []
        self.restarts: list[str] = []
        self.losses: list[str] = []
        self.unclosed: list[str] = []
        self.concluded: Callable[[], object] = never
        self.journal = KeptJournal()
        self.heartbeats = Heartbeats(self.clock)
        self.server = ParameterServer(
            np.zeros(parameters, np.float32),
            (),
            GradientLearner(_subtract),
            settings,
            self.evaluate,
            self.events.append,
            self.journal,
        )

    def evaluate(self, candidate: Candidate) -> EvaluationResult:
        """Evaluate for the server: a fixed score."""
        score = Score(1.0, 0.0, 1.0, 1.0, 1.0, 1.0, episodes=2, greedy=True, cut=0, steps=2)
        return EvaluationResult(score, None, False)

    def run(
        self,
        make: Callable[[int, int], Any],
        direct: Direct,
        workers: int | Sequence[WorkerStart] = 2,
        max_restarts: int = 0,
        restart_on_error: bool = False,
        **supervised: Any,
    ) -> None:
        """Launch workers, and run until the end.

        Args:
            make: makes a worker.
            direct: the pump; returns a reason to stop, or None.
            workers: the workers to start, or their number.
            max_restarts: as for `RestartPolicy`.
            restart_on_error: as for `RestartPolicy`.
            **supervised: further fields of `Supervision`.
        """
        deadline = time.monotonic() + PATIENCE

        def pump() -> StopReason | None:
            assert time.monotonic() < deadline, "the test waits for something that never came"
            return direct()

        notices = Notices(
            lambda worker, generation, what: self.restarts.append(what),
            self.losses.append,
            self.unclosed.append,
        )
        settings = {"worker_timeout": TIMEOUT, "close_timeout": PATIENCE, **supervised}
        supervision = Supervision(
            pump=pump,
            interval=self.interval,
            environment=ENVIRONMENT,
            restart_policy=RestartPolicy(max_restarts, restart_on_error),
            notices=notices,
            **settings,
        )
        if isinstance(workers, int):
            workers = [WorkerStart(index) for index in range(workers)]
        factory = FakeFactory(make, self.shape)
        self._launcher.run(
            Launch(
                self.server,
                factory,
                workers,
                supervision,
                self.heartbeats,
                lambda: self.concluded(),
            )
        )

    @property
    def shape(self) -> MailboxShape:
        return shape_of(self._parameters)

    @property
    def kinds(self) -> list[RecordKind]:
        return [record.kind for record in self.journal.records]

    @property
    def counts(self) -> dict[int, int]:
        """Number of applied updates, by worker."""
        found: dict[int, int] = {}
        for event in list(self.events):
            if isinstance(event, Updated):
                found[event.worker] = found.get(event.worker, 0) + 1
        return found

    def count(self, worker: int, generation: int = 0) -> int:
        """Return the number of updates from one generation of a worker."""
        return sum(
            record.kind == RecordKind.UPDATE
            and (record.worker, record.generation) == (worker, generation)
            for record in list(self.journal.records)
        )

    def until(self, count: int, *which: tuple[int, int]) -> Direct:
        """Make a pump that ends the run once each (worker, generation) has sent enough updates."""

        def direct() -> StopReason | None:
            there = all(self.count(*one) >= count for one in which)
            return StopReason.INTERRUPTED if there else None

        return direct

    @property
    def sum_of_parameters(self) -> float:
        return float(np.sum(np.asarray(self.server.snapshot().parameters)))


class Crew:
    """Detects threads and processes that were not there before."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def has_left(self) -> bool:
        return set(threading.enumerate()) <= self._before and not multiprocessing.active_children()


class Pipe:
    """A place where a worker hangs, in any thread or process, until the test wakes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end: int | None = None
        os.mkfifo(path)

    def is_waited_at(self) -> bool:
        """Whether a worker hangs here already."""
        if self._end is None:
            # Opening fails (ENXIO) as long as nobody reads at the other end.
            with contextlib.suppress(OSError):
                self._end = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        return self._end is not None

    def wake(self) -> None:
        if self._end is not None:
            os.close(self._end)
            self._end = None


def wait_at(pipe: str) -> None:
    # In one frame, so that the reported line is the same before and after the other end is opened.
    end = os.open(pipe, os.O_RDONLY)
    try:
        while os.read(end, 1):
            pass
    finally:
        os.close(end)
