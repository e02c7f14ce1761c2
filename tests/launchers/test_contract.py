"""The contract that every launcher keeps, tested with fake workers and the real server.

Every launcher of the registry is tested. No result depends on how long something takes: workers
hang at a named pipe, which works across threads and processes alike, and the test moves the clock
of the heartbeats.
"""

import dataclasses
import errno
import functools
import math
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import cloudpickle
import numpy as np
import pytest

from poise.config import TrainConfig
from poise.envs.deadlines import BackgroundCall
from poise.errors import DeadlineError, WorkerError
from poise.launchers import process_pool, registry
from poise.launchers.launcher import Launch, Launcher, WorkerStart
from poise.launchers.mailbox import MailboxShape
from poise.launchers.serial import Serial
from poise.launchers.supervision import CLOSE_SECONDS, EVALUATION
from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.learning.events import Stopped, Updated
from poise.learning.journal import RecordKind, StopReason
from poise.learning.parameter_server import EvaluationAborted
from poise.training.server_settings import server_settings
from poise.trajectory import Snapshot, WorkerUpdate

from . import harness
from .harness import ENVIRONMENT, PATIENCE, STEPS, TIMEOUT, Crew, Pipe, update_of, wait_at

# Classes of this module are pickled by value: a worker's process cannot import a test.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class SerialElsewhere(Serial):
    """The serial launcher when training is called outside the main thread."""

    def run(self, launch: Launch) -> None:
        background_call = BackgroundCall(lambda: super(SerialElsewhere, self).run(launch))
        assert background_call.is_done(2 * PATIENCE)
        background_call.outcome()


LAUNCHERS: dict[str, Launcher] = {
    **registry.LAUNCHERS,
    "serial elsewhere": SerialElsewhere(),
}
INTERVAL = 0.001
PARAMETERS = 3


class AwkwardError(Exception):
    """Can be neither pickled nor printed."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no text")


RAISES: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("the pole is \N{SNOWMAN}\nand on a second line"),
    "awkward": lambda: AwkwardError(1, 2),
    "StopIteration": StopIteration,
    "SystemExit": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
}


@dataclasses.dataclass(frozen=True)
class FakeWorker(harness.FakeWorker):
    """Counts its cycles, and fails or hangs where the test wants it to."""

    raises: str = ""
    """Which of `RAISES`; raised in cycle ``at``, or after waking up if ``pipe`` is given."""
    pipe: str = ""
    """A named pipe to hang in until it is closed."""
    lies: bool = False
    """Claim to have acted with a version that the server has not sent."""
    is_checkpointable: bool = True
    at: int = 2
    """The cycle in which it misbehaves; -1 for `initial_state`."""

    def initial_state(self) -> int:
        self._misbehave(-1)
        return 0

    def cycle(self, snapshot: Snapshot, state: int) -> tuple[WorkerUpdate, int]:
        self._misbehave(state)
        return update_of(snapshot, self.index + 1, lie=self.lies), state + 1

    def describe_activity(self) -> str:
        return f"the stage, in cycle {self.at}"

    def _misbehave(self, cycle: int) -> None:
        if cycle != self.at:
            return
        if self.pipe:
            wait_at(self.pipe)
        if self.raises:
            raise RAISES[self.raises]()


class Stage(harness.Stage):
    """A server, a record of its events, and all that a test needs to direct a launcher."""

    interval = INTERVAL

    def __init__(
        self,
        launcher: Launcher,
        evaluation_interval: int = 10**9,
        max_steps: int = 10**9,
        algorithm: Literal["a3c", "a2c"] = "a3c",
    ) -> None:
        self.evaluated_by = 0
        self.evaluator: Callable[[], None] = harness.never
        config = TrainConfig(
            algorithm=algorithm,
            workers=3,
            learning_rate=1.0,
            max_steps=max_steps,
            evaluation_interval=evaluation_interval,
        )
        self._waits = algorithm == "a2c"
        super().__init__(launcher, PARAMETERS, server_settings(config, target_return=None))

    @property
    def shape(self) -> MailboxShape:
        return harness.shape_of(PARAMETERS, state=0)

    def play(
        self, workers: Sequence[FakeWorker], direct: Callable[["Stage"], StopReason | None]
    ) -> None:
        """Launch these workers; ``direct`` is the pump, which returns a reason to stop."""
        make = functools.partial(_pick, {worker.index: worker for worker in workers})
        starts = [WorkerStart(worker.index, worker.generation) for worker in workers]
        self.run(make, lambda: direct(self), starts, close_timeout=CLOSE_SECONDS)

    def all_have(self, count: int, workers: Sequence[int]) -> bool:
        return all(self.counts.get(worker, 0) >= count for worker in workers)

    def check_consistency(self, reason: StopReason) -> None:
        """Check, whatever happened: the end is the last event, and the sums are right."""
        server = self.server
        assert server.stop_reason == reason
        assert isinstance(self.events[-1], Stopped)
        assert sum(isinstance(event, Stopped) for event in self.events) == 1
        assert self.journal.records[-1].kind == RecordKind.STOP
        received = sum(record.kind == RecordKind.UPDATE for record in self.journal.records)
        changes = sum(record.kind == RecordKind.CHANGE for record in self.journal.records)
        counts = self.counts
        total = -sum((worker + 1) * count for worker, count in counts.items())
        assert server.steps == STEPS * sum(counts.values())
        if self._waits:
            # Updates from an incomplete round are dropped.
            assert len(set(counts.values())) <= 1
            assert server.version == changes == max(counts.values(), default=0)
            assert received - sum(counts.values()) >= 0
            total = total / max(1, len(counts))
        else:
            assert server.version == received == sum(counts.values())
        assert np.asarray(server.snapshot().parameters).tolist() == [total] * PARAMETERS

    def evaluate(self, candidate: Candidate) -> EvaluationResult:
        self.evaluated_by += 1
        self.evaluator()
        return super().evaluate(candidate)


def _pick(workers: dict[int, FakeWorker], index: int, generation: int) -> FakeWorker:
    return workers[index]


def _interrupt(now: bool) -> StopReason | None:
    return StopReason.INTERRUPTED if now else None


def _in_thread_of_pump() -> bool:
    return threading.current_thread() is threading.main_thread()


def _never(stage: Stage) -> StopReason | None:
    return None


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if one.traits.own_processes else ())
        for name, one in LAUNCHERS.items()
    ]
)
def launcher(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_stage(launcher: str) -> Iterator[Callable[..., Stage]]:
    """Make stages; in any case, their servers are stopped after the test."""
    stages: list[Stage] = []

    def make(**settings: Any) -> Stage:
        stages.append(Stage(LAUNCHERS[launcher], **settings))
        return stages[-1]

    yield make
    for stage in stages:
        stage.server.stop(StopReason.FAILED)


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


@pytest.fixture(autouse=True)
def kill_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill a process that does not exit; no result depends on how soon."""
    monkeypatch.setattr(process_pool, "LEAVE_SECONDS", 0.5)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Check that no thread or process is left; those that hung on purpose have been released."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not multiprocessing.active_children()


ALGORITHMS = pytest.mark.parametrize("algorithm", ["a3c", "a2c"])
"""One algorithm in which workers do not wait for each other, and one in which they do."""


def make_workers(count: int = 3, **special: Any) -> list[FakeWorker]:
    """Make workers, of which number 1 is special."""
    return [FakeWorker(index, **(special if index == 1 else {})) for index in range(count)]


@ALGORITHMS
def test_updates_of_all_workers_arrive(make_stage, algorithm: str, crew: Crew):
    stage = make_stage(algorithm=algorithm)
    everyone = range(3)
    stage.play(make_workers(), lambda stage: _interrupt(stage.all_have(5, everyone)))
    stage.check_consistency(StopReason.INTERRUPTED)
    assert stage.all_have(5, everyone)
    assert crew.has_left()


def test_serial_takes_workers_in_turn():
    stage = Stage(LAUNCHERS["serial"])
    stage.play(make_workers(3), lambda stage: _interrupt(stage.all_have(5, range(3))))
    order = [event.worker for event in stage.events if isinstance(event, Updated)]
    assert order == [index % 3 for index in range(len(order))]


def test_the_server_s_own_budget_ends_the_run(make_stage, crew: Crew):
    stage = make_stage(max_steps=20 * STEPS)
    stage.play(make_workers(), _never)
    stage.check_consistency(StopReason.MAX_STEPS)
    assert stage.server.version == 20
    assert stage.evaluated_by == 1
    assert crew.has_left()


def test_a_budget_ends_the_run_after_a_complete_round(make_stage, crew: Crew):
    stage = make_stage(algorithm="a2c", max_steps=20 * STEPS)
    stage.play(make_workers(), _never)
    stage.check_consistency(StopReason.MAX_STEPS)
    assert stage.server.version == 7
    assert stage.counts == dict.fromkeys(range(3), 7)
    assert crew.has_left()


@pytest.mark.parametrize("raises", RAISES)
@pytest.mark.parametrize("at", [-1, 0, 3])
@ALGORITHMS
def test_an_exception_of_a_worker_is_raised(
    make_stage, algorithm: str, crew: Crew, raises: str, at: int
):
    stage = make_stage(algorithm=algorithm)
    workers = make_workers(raises=raises, at=at)
    with pytest.raises(WorkerError) as caught:
        stage.play(workers, _never)
    error = caught.value
    assert (error.worker, error.environment, error.seed) == (1, ENVIRONMENT, workers[1].seed)
    assert "Traceback" in error.worker_traceback
    assert "_misbehave" in error.worker_traceback
    assert type(RAISES[raises]()).__name__ in error.worker_traceback
    for part in ("worker 1", ENVIRONMENT, str(workers[1].seed)):
        assert part in str(error)
    assert stage.counts.get(1, 0) == max(at, 0)
    stage.check_consistency(StopReason.FAILED)
    assert crew.has_left()


def test_the_first_of_many_failures_is_reported(stage: Stage, crew: Crew):
    workers = [FakeWorker(index, raises="ValueError", at=0) for index in range(4)]
    with pytest.raises(WorkerError) as caught:
        stage.play(workers, _never)
    assert caught.value.seed == workers[caught.value.worker].seed
    stage.check_consistency(StopReason.FAILED)
    assert crew.has_left()


def test_a_protocol_error_is_raised(stage: Stage, crew: Crew):
    with pytest.raises(Exception, match="worker 1 acted with version"):
        stage.play(make_workers(lies=True), _never)
    stage.check_consistency(StopReason.FAILED)
    assert crew.has_left()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("at", [-1, 2])
def test_a_hung_worker_ends_the_run_at_its_deadline(
    launcher: str, stage: Stage, pipe: Pipe, at: int
):
    before = set(threading.enumerate())
    traits = LAUNCHERS[launcher].traits
    # In turn, a hanging worker blocks the others; processes continue without it while others exist.
    others = () if traits.in_turn or traits.own_processes else (0, 2)
    team = [one for one in make_workers(pipe=str(pipe.path), at=at) if one.index in (1, *others)]
    if traits.in_turn:
        team = make_workers(pipe=str(pipe.path), at=at)
    seen: dict[int, int] = {}

    def direct(stage: Stage) -> StopReason | None:
        # Move the clock, by less than the timeout, whenever the others have given signs of life.
        if pipe.is_waited_at() and all(
            stage.all_have(seen.get(one, 0) + 2, [one]) for one in others
        ):
            seen.update(stage.counts)
            stage.clock.now += 0.6 * TIMEOUT
        return None

    if launcher == "serial":
        # While the worker hangs, nobody calls the pump.
        stage.clock.before = lambda: direct(stage)
    with pytest.raises(DeadlineError) as caught:
        stage.play(team, direct if launcher != "serial" else _never)
    stage.check_consistency(StopReason.FAILED)
    assert stage.counts.get(1, 0) == max(at, 0)
    assert ENVIRONMENT in str(caught.value)
    assert "worker 1 " in str(caught.value)
    if not traits.own_processes:
        # These launchers can ask it for its activity; a process must report it by itself.
        assert "the stage, in cycle" in str(caught.value)
        assert ", in wait_at)" in str(caught.value)
    version = stage.server.version
    pipe.wake()
    # Threads that other tests left behind do not matter here.
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert stage.server.version == version


@pytest.mark.parametrize(
    ("launcher", "raises"),
    [("threads", ""), ("serial", ""), ("serial elsewhere", ""), ("threads", "ValueError")],
)
def test_nobody_is_overdue_during_a_long_evaluation(
    launcher: str, raises: str, make_stage, crew: Crew
):
    """An evaluation is watched itself; workers that wait for it are not regarded as hung.

    Neither is a worker that has raised, and waits to report it.
    """
    stage = make_stage(evaluation_interval=3 * STEPS)

    def evaluator() -> None:
        stage.heartbeats.beat(EVALUATION)
        # The clock stands still until no worker is in a cycle any more; then it jumps.
        deadline = time.monotonic() + PATIENCE
        while set(stage.heartbeats.overdue(-math.inf)) != {EVALUATION}:
            assert time.monotonic() < deadline
            time.sleep(INTERVAL)
        for _ in range(4):
            stage.clock.now += 0.4 * TIMEOUT
            stage.heartbeats.beat(EVALUATION)
        stage.heartbeats.leave(EVALUATION)

    stage.evaluator = evaluator
    if raises:
        with pytest.raises(WorkerError, match=raises):
            stage.play(make_workers(raises=raises, at=3), _never)
        stage.check_consistency(StopReason.FAILED)
    else:
        stage.play(make_workers(), lambda stage: _interrupt(stage.evaluated_by >= 3))
        stage.check_consistency(StopReason.INTERRUPTED)
    assert crew.has_left()


@pytest.mark.parametrize("reason", list(StopReason))
@ALGORITHMS
def test_a_reason_from_the_pump_ends_the_run(
    make_stage, algorithm: str, crew: Crew, reason: StopReason
):
    stage = make_stage(algorithm=algorithm)
    stage.play(make_workers(), lambda stage: reason if stage.all_have(2, range(3)) else None)
    stage.check_consistency(reason)
    # A regular end is followed by an evaluation; an abort is not.
    budgets = {StopReason.MAX_STEPS, StopReason.MAX_EPISODES, StopReason.MAX_SECONDS}
    concluding = budgets | {StopReason.CALLBACK}
    assert stage.evaluated_by == (reason in concluding)
    assert crew.has_left()


def test_a_reason_at_the_first_pump_ends_the_run(stage: Stage, crew: Crew):
    stage.play(make_workers(), lambda stage: StopReason.TERMINATED)
    stage.check_consistency(StopReason.TERMINATED)
    assert crew.has_left()


def test_a_reason_to_stop_aborts_a_running_evaluation(make_stage, crew: Crew):
    """The evaluation sees the same reason between two steps, and aborts."""
    stage = make_stage(evaluation_interval=2 * STEPS)
    evaluating, stopping = threading.Event(), threading.Event()

    def evaluator() -> None:
        evaluating.set()
        assert _in_thread_of_pump() or stopping.wait(PATIENCE)
        raise EvaluationAborted(StopReason.INTERRUPTED)

    def direct(stage: Stage) -> StopReason | None:
        if not evaluating.is_set():
            return None
        stopping.set()
        return StopReason.INTERRUPTED

    stage.evaluator = evaluator
    stage.play(make_workers(), direct)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert stage.evaluated_by == 1
    assert crew.has_left()


def test_a_failing_evaluation_ends_the_run(make_stage, crew: Crew):
    stage = make_stage(evaluation_interval=2 * STEPS)

    def evaluator() -> None:
        raise ValueError("the evaluator is unwell")

    stage.evaluator = evaluator
    with pytest.raises(Exception, match="the evaluator is unwell"):
        stage.play(make_workers(), _never)
    assert stage.server.stop_reason == StopReason.FAILED
    assert crew.has_left()


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt, AssertionError])
def test_an_exception_in_the_pump_propagates(stage: Stage, crew: Crew, kind: type[BaseException]):
    error = kind(errno.ENOSPC, "No space left on device")

    def direct(stage: Stage) -> StopReason | None:
        if stage.all_have(2, range(3)):
            raise error
        return None

    with pytest.raises(kind) as caught:
        stage.play(make_workers(), direct)
    assert caught.value is error
    stage.check_consistency(StopReason.FAILED)
    assert crew.has_left()


def test_a_pump_that_keeps_failing_waits_for_the_evaluation(make_stage, crew: Crew):
    """A full disk stays full: the second exception must not interrupt the clean-up."""
    stage = make_stage(evaluation_interval=2 * STEPS)
    evaluating, failed = threading.Event(), threading.Event()

    def evaluator() -> None:
        evaluating.set()
        assert _in_thread_of_pump() or failed.wait(PATIENCE)
        # Long enough for a launcher that would ask the pump again.
        time.sleep(100 * INTERVAL)

    def direct(stage: Stage) -> StopReason | None:
        if evaluating.is_set():
            failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return None

    stage.evaluator = evaluator
    with pytest.raises(OSError, match="No space"):
        stage.play(make_workers(), direct)
    assert crew.has_left()
    assert stage.server.stop_reason == StopReason.FAILED


@pytest.mark.parametrize("raises", ["", "ValueError"])
def test_updates_after_the_stop_are_ignored(
    launcher: str, stage: Stage, pipe: Pipe, crew: Crew, raises: str
):
    """A cycle that was running when the run ended changes nothing, even if it fails."""
    if launcher == "serial":
        pytest.skip("nothing ends the run while a cycle is under way")
    stopped_at: list[int] = []

    def direct(stage: Stage) -> StopReason | None:
        if stage.server.stopped:
            stopped_at.append(stage.server.version)
            pipe.wake()
            return None
        return StopReason.INTERRUPTED if pipe.is_waited_at() else None

    stage.play(make_workers(pipe=str(pipe.path), raises=raises), direct)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert all(version == stage.server.version for version in stopped_at)
    assert stage.counts[1] == 2
    assert crew.has_left()


def test_many_workers_share_one_server(stage: Stage, crew: Crew):
    """Frequent thread switches neither lose nor repeat an update."""
    everyone = range(8)
    previous = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        stage.play(
            make_workers(8),
            lambda stage: _interrupt(stage.all_have(3, everyone)),
        )
    finally:
        sys.setswitchinterval(previous)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert crew.has_left()
