"""Workers in processes: killed at any moment, hung, unpicklable, in scripts of every kind.

Workers are fakes, the server is real: its parameters must match the journal, bit for bit.
"""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from poise.errors import ConfigError, DeadlineError, InputError, WorkerError
from poise.launchers import process_pool, processes, worker_main
from poise.launchers.process_pool import ProcessPool
from poise.launchers.processes import Processes
from poise.launchers.worker_process import WorkerProcess
from poise.learning.events import Updated
from poise.learning.journal import RecordKind, StopReason
from poise.trajectory import Snapshot, WorkerUpdate

from ..shared_memory import held_here
from . import harness
from .harness import PATIENCE, STEPS, TIMEOUT, FakeWorker, never, update_of, wait_for

# Classes of this module are pickled by value: a worker's process cannot import a test.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("no_main_module", "nothing_is_left_behind")

ROOT = Path(__file__).parents[2]
PARAMETERS = 20_000
"""Large enough for a torn write."""


def gradient_of(index: int, generation: int, cycle: int) -> float:
    """Return small whole numbers, whose float32 sums are exact."""
    return float(1 + cycle % 8 + 8 * index + 16 * generation)


@dataclasses.dataclass(frozen=True)
class Fake(FakeWorker):
    """A worker that misbehaves in one of its cycles, and its factory."""

    point: str = ""
    """Where its process kills itself (see `arm`), or what it does instead of a cycle."""
    at: int = 3
    """The number of the cycle in which it misbehaves, from 1."""
    deaths: int = 1
    """How many of its generations misbehave."""
    victim: int = 1

    def __call__(self, index: int, generation: int) -> "Fake":
        point = self.point if index == self.victim and generation < self.deaths else ""
        arm(point, self.at)
        return dataclasses.replace(self, index=index, generation=generation, point=point)

    def cycle(self, snapshot: Snapshot, state: int) -> tuple[WorkerUpdate, int]:
        if state + 1 == self.at:
            match self.point:
                case "cycle":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hang":
                    threading.Event().wait()
                case "exit":
                    sys.exit("it has had enough")
                case "ValueError" | "EOFError" | "BrokenPipeError":
                    raise {
                        "ValueError": ValueError,
                        "EOFError": EOFError,
                        "BrokenPipeError": BrokenPipeError,
                    }[self.point]("the pole broke")
        value = gradient_of(self.index, self.generation, state)
        return update_of(snapshot, value, returns=[value]), state + 1


POINTS = (
    "cycle",
    "taking the snapshot",
    "before writing",
    "half written",
    "before the checksum",
    "before the signal",
    "half a signal",
    "most of a signal",
    "after the signal",
)


def arm(point: str, at: int) -> None:
    """Make this process kill itself at a point of its exchange number ``at``, from 1."""
    from poise.launchers import framed_pipe, mailbox, shared_message

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    box, send, checksum = mailbox.Mailbox, framed_pipe.FramedPipe.send, shared_message.checksum_of
    put, take = box.put_update, box.take_snapshot
    writing = False

    def take_snapshot(self: Any, sequence: int, *rest: Any) -> Any:
        if point == "taking the snapshot" and sequence == at:
            die()
        return take(self, sequence, *rest)

    def put_update(self: Any, worker_update: Any, sequence: int, *rest: Any) -> None:
        nonlocal writing
        if sequence == at:
            if point == "before writing":
                die()
            if point == "half written":
                parts = self.update_message.parts
                parts["version"][...], parts["sequence"][...] = worker_update.version, sequence
                parts["gradient"][: PARAMETERS // 2] = np.asarray(worker_update.payload.vector)[0]
                die()
            writing = point == "before the checksum"
        put(self, worker_update, sequence, *rest)
        if point == "before the signal" and sequence == at:
            die()

    def checksum_of(words: Any) -> Any:
        if writing:
            die()
        return checksum(words)

    def send_message(self: Any, message: bytes) -> None:
        is_it = message == worker_main.SIGNAL.pack(b"C", at)
        if is_it and point in ("half a signal", "most of a signal"):
            whole = len(message).to_bytes(8, "little") + message
            os.write(self.fileno(), whole[: 2 if point == "half a signal" else -1])
            die()
        send(self, message)
        if is_it and point == "after the signal":
            die()

    box.take_snapshot, box.put_update = take_snapshot, put_update
    shared_message.checksum_of, framed_pipe.FramedPipe.send = checksum_of, send_message


class Stage(harness.Stage):
    """A server with many parameters, and its processes."""

    def __init__(self) -> None:
        super().__init__(Processes(), PARAMETERS)

    def check_consistency(self, reason: StopReason) -> None:
        """Check that the parameters are those of a replay: no update was applied partially."""
        server = self.server
        assert server.stop_reason == reason
        assert self.journal.records[-1].kind == RecordKind.STOP
        cycles: dict[int, int] = {}
        total, version = 0.0, 0
        for record in self.journal.records:
            if record.kind == RecordKind.JOIN:
                cycles[record.worker] = 0
            elif record.kind == RecordKind.LEAVE:
                del cycles[record.worker]
            elif record.kind == RecordKind.UPDATE:
                total -= gradient_of(record.worker, record.generation, cycles[record.worker])
                cycles[record.worker] += 1
                version += 1
        assert server.version == version
        assert server.version == sum(isinstance(event, Updated) for event in self.events)
        assert server.steps == STEPS * version
        assert server.episode_statistics.episodes == version
        assert set(np.asarray(server.snapshot().parameters).tolist()) == {total}


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.server.stop(StopReason.FAILED)


def test_updates_of_all_workers_arrive(stage: Stage) -> None:
    before = held_here()
    stage.run(Fake(), stage.until(4, (0, 0), (1, 0)))
    stage.check_consistency(StopReason.INTERRUPTED)
    assert not stage.restarts
    assert held_here() == before


@pytest.mark.slow
def test_an_exception_in_the_pump_propagates(stage: Stage) -> None:
    def direct() -> None:
        if stage.count(0) >= 2:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        stage.run(Fake(), direct, workers=1)
    stage.check_consistency(StopReason.FAILED)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ValueError", "EOFError", "BrokenPipeError"])
def test_an_exception_of_a_worker_is_raised_with_its_traceback(stage: Stage, kind: str) -> None:
    """Even an exception that looks as if the pipe to the parent had broken."""
    with pytest.raises(WorkerError) as caught:
        stage.run(Fake(point=kind, victim=0, deaths=9), never, workers=1, max_restarts=2)
    error = caught.value
    assert (error.worker, error.environment, error.seed) == (0, "Fake-v0", 1000)
    assert "Traceback" in error.worker_traceback
    assert "in cycle" in error.worker_traceback
    assert str(error).endswith(f"{kind}: the pole broke")
    assert not stage.restarts
    stage.check_consistency(StopReason.FAILED)
    assert stage.count(0) == 2


@pytest.mark.slow
def test_a_worker_that_raised_is_restarted_on_request(stage: Stage) -> None:
    stage.run(
        Fake(point="ValueError"),
        stage.until(2, (0, 0), (1, 1)),
        max_restarts=1,
        restart_on_error=True,
    )
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(stage.restarts) == 1
    assert (
        "worker 1 (environment seed 1001) failed: ValueError: the pole broke" in stage.restarts[0]
    )


@pytest.mark.slow
def test_a_worker_that_exits_says_how(stage: Stage) -> None:
    with pytest.raises(WorkerError, match=r"it has had enough|exit code 1"):
        stage.run(Fake(point="exit", victim=0), never, workers=1)
    stage.check_consistency(StopReason.FAILED)


def move_clock_after(stage: Stage, count: int, victim: int = 1) -> Callable[[], None]:
    """Move the clock once the victim must be hanging; only the others give signs of life."""

    def direct() -> None:
        if stage.count(victim) >= count:
            stage.clock.now += TIMEOUT / 4

    return direct


@pytest.mark.usefixtures("impatient")
@pytest.mark.slow
def test_a_hung_worker_is_killed_at_its_deadline(stage: Stage) -> None:
    with pytest.raises(DeadlineError) as caught:
        stage.run(Fake(point="hang", victim=0), move_clock_after(stage, 2, 0), workers=1)
    assert "worker 0 in Fake-v0 (environment seed 1000" in str(caught.value)
    assert "has not answered for 1000 s" in str(caught.value)
    stage.check_consistency(StopReason.FAILED)
    assert stage.count(0) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_the_others_continue_without_a_worker_that_may_not_be_restarted(stage: Stage) -> None:
    """As long as another worker is left."""
    goes_on = stage.until(5, (0, 0))

    def direct() -> StopReason | None:
        if not stage.losses:
            return move_clock_after(stage, 2)()
        return goes_on()

    stage.run(Fake(point="hang"), direct)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(stage.losses) == 1
    assert "worker 1 in Fake-v0" in stage.losses[0]
    assert stage.count(1) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_hung_worker_says_where_it_hangs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports this before the parent's timeout; here the test waits until it has done so."""
    words: list[str] = []
    hear = WorkerProcess.hear_last_word

    def heard(worker_process: WorkerProcess, message: bytes) -> None:
        hear(worker_process, message)
        words.append(worker_process.last_word)

    monkeypatch.setattr(WorkerProcess, "hear_last_word", heard)
    moved = move_clock_after(stage, 2, 0)

    def direct() -> None:
        if words:
            moved()

    with pytest.raises(DeadlineError) as caught:
        stage.run(Fake(point="hang", victim=0), direct, workers=1, worker_timeout=2.0)
    assert words == [f"the pole, last action 1; {words[0].partition('; ')[2]}"]
    assert "in wait" in words[0]
    assert words[0] in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, 40])
def test_a_worker_that_gets_any_signal_is_restarted(stage: Stage, number: int) -> None:
    """SIGSTOP makes it silent; a signal without a name kills it."""
    sent: list[int] = []

    def direct() -> StopReason | None:
        if not sent and stage.count(1) >= 2:
            victim = next(
                one for one in multiprocessing.active_children() if one.name.endswith("-1")
            )
            os.kill(victim.pid or 0, number)
            sent.append(stage.count(1))
        if sent and number == signal.SIGSTOP and not stage.restarts:
            stage.clock.now += TIMEOUT / 4
        return stage.until(3, (1, 1))()

    stage.run(Fake(), direct, max_restarts=1)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(stage.restarts) == 1
    text = "has not answered" if number == signal.SIGSTOP else "was killed by signal 40"
    assert text in stage.restarts[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_workers_ignore_signals_to_the_whole_group(stage: Stage, number: int) -> None:
    sent: list[int] = []

    def direct() -> StopReason | None:
        if not sent and stage.count(0) >= 2:
            for worker_main in multiprocessing.active_children():
                os.kill(worker_main.pid or 0, number)
            sent.append(stage.count(0))
        return StopReason.TERMINATED if sent and stage.count(0) >= sent[0] + 5 else None

    stage.run(Fake(), direct)
    stage.check_consistency(StopReason.TERMINATED)
    assert not stage.restarts


@pytest.mark.slow
def test_a_worker_that_ended_with_the_run_is_not_started_again(stage: Stage) -> None:
    """The reason to stop is handled first, even if it has also ended the worker."""

    def direct() -> StopReason | None:
        if stage.count(0) < 2:
            return None
        for one in multiprocessing.active_children():
            one.kill()
            one.join()
        return StopReason.TERMINATED

    stage.run(Fake(), direct, workers=1, max_restarts=3)
    stage.check_consistency(StopReason.TERMINATED)
    assert not stage.restarts


@pytest.mark.slow
def test_a_worker_with_an_unread_message_is_not_overdue(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the parent evaluates, it does not read messages."""
    pools: list[ProcessPool] = []

    class KeptPool(ProcessPool):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            pools.append(self)

    monkeypatch.setattr(processes, "ProcessPool", KeptPool)
    receive = stage.server.receive
    waited: list[int] = []

    def slow(worker: int, *rest: Any) -> Any:
        answers = receive(worker, *rest)
        others = [
            worker_process
            for worker_process in pools[0].workers.values()
            if worker_process.index != worker and worker_process.ready
        ]
        if others and len(waited) < 2:
            deadline = time.monotonic() + PATIENCE
            while not all(worker_process.pipe.has_mail() for worker_process in others):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            stage.clock.now += 2 * TIMEOUT
            waited.append(worker)
        return answers

    monkeypatch.setattr(stage.server, "receive", slow)
    stage.run(Fake(), stage.until(6, (0, 0), (1, 0)))
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(waited) == 2
    assert not stage.restarts


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_hung_worker_is_restarted(stage: Stage) -> None:
    def direct() -> StopReason | None:
        if stage.count(1) >= 2 and not stage.restarts:
            stage.clock.now += TIMEOUT / 4
        return stage.until(3, (1, 1))()

    stage.run(Fake(point="hang"), direct, max_restarts=1)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(stage.restarts) == 1
    assert "has not answered" in stage.restarts[0]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_is_killed_never_leaves_half_an_update(stage: Stage, point: str) -> None:
    stage.run(Fake(point=point, victim=0), stage.until(3, (0, 1)), workers=1, max_restarts=1)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(stage.restarts) == 1
    assert "killed by SIGKILL" in stage.restarts[0]
    # The third update was applied only if it had been announced completely.
    assert stage.count(0, 0) == (3 if point == "after the signal" else 2)
    joins = [record for record in stage.journal.records if record.kind == RecordKind.JOIN]
    assert [record.generation for record in joins] == [0, 1]


@pytest.mark.slow
def test_the_others_continue_while_a_worker_is_restarted(stage: Stage) -> None:
    stage.run(Fake(point="half written", deaths=2), stage.until(3, (0, 0), (1, 2)), max_restarts=2)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(stage.restarts) == 2
    assert stage.count(0, 0) > 3


@pytest.mark.slow
def test_restarts_are_counted(stage: Stage) -> None:
    with pytest.raises(WorkerError, match="killed by SIGKILL") as caught:
        stage.run(Fake(point="cycle", victim=0, deaths=9), never, workers=1, max_restarts=1)
    assert (caught.value.worker, caught.value.seed) == (0, 1000)
    assert len(stage.restarts) == 1
    stage.check_consistency(StopReason.FAILED)


@pytest.mark.slow
def test_workers_killed_from_outside_at_any_moment(stage: Stage) -> None:
    """The parent kills them at its regular checks, wherever the worker is at that time."""
    kills = 0

    def direct() -> StopReason | None:
        nonlocal kills
        victims = [one for one in multiprocessing.active_children() if one.name.endswith("-1")]
        if kills < 6 and victims and stage.count(1, kills) >= 1 + 3 * kills:
            victims[0].kill()
            kills += 1
        return StopReason.INTERRUPTED if stage.count(1, 6) >= 3 else None

    stage.run(Fake(), direct, max_restarts=6)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(stage.restarts) == 6


def fails_to_build(index: int, generation: int) -> Any:
    raise RuntimeError("cannot be built here")


def dies_when_built(index: int, generation: int) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_cannot_be_built_ends_the_run(stage: Stage) -> None:
    with pytest.raises(WorkerError, match="RuntimeError: cannot be built here"):
        stage.run(fails_to_build, never, workers=1, max_restarts=3)
    assert not stage.restarts
    stage.check_consistency(StopReason.FAILED)


@pytest.mark.slow
def test_a_worker_that_dies_before_it_is_ready_is_restarted(stage: Stage) -> None:
    """Such as one that the system kills for its memory use; but not endlessly."""
    with pytest.raises(WorkerError, match="SIGKILL before it was ready"):
        stage.run(dies_when_built, never, workers=1, max_restarts=2)
    assert len(stage.restarts) == 2
    stage.check_consistency(StopReason.FAILED)


def test_a_factory_that_cannot_be_pickled_is_refused_before_anything_starts(stage: Stage) -> None:
    lock = threading.Lock()

    def factory(index: int, generation: int) -> Any:
        with lock:
            raise RuntimeError

    with pytest.raises(ConfigError, match=r"cannot be sent to a worker process.*threads"):
        stage.run(factory, never)
    assert not stage.journal.records


@dataclasses.dataclass(frozen=True)
class Simulated(Fake):
    """A worker with a simulator, which logs when that is made and closed."""

    log: str = ""
    stuck: str = ""
    """Where it hangs: ``cycle`` or ``close``."""
    raises: bool = False

    def initial_state(self) -> int:
        # A program that ends when it is closed, and a multiprocessing process that must be killed.
        context = multiprocessing.get_context("fork" if self.index else "spawn")
        process = context.Process(target=time.sleep, args=(1e6,), daemon=True)
        process.start()
        program = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.__dict__["program"] = program
        self._note("made", program.pid, process.pid)
        return 0

    def cycle(self, snapshot: Snapshot, state: int) -> tuple[WorkerUpdate, int]:
        if state == 2 and self.stuck == "cycle":
            self._note("stuck")
            threading.Event().wait()
        if state == 2 and self.raises:
            raise ValueError("the pole broke")
        return super().cycle(snapshot, state)

    def close(self) -> None:
        self._note("closed")
        if self.stuck == "close":
            threading.Event().wait()
        self.__dict__["program"].communicate()

    def _note(self, *words: object) -> None:
        with open(self.log, "a") as file:
            print(*words, file=file)


class Simulators:
    """The simulators of a test, and whether they are gone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def words(self, kind: str) -> list[str]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(kind)]

    def are_gone(self) -> bool:
        made = [int(pid) for line in self.words("made") for pid in line.split()]
        assert made
        return not any(map(is_alive, made))


@pytest.fixture
def simulators(tmp_path: Path) -> Simulators:
    return Simulators(tmp_path / "log")


@pytest.mark.slow
def test_environments_may_have_processes_and_are_closed_once(
    stage: Stage, simulators: Simulators
) -> None:
    factory = Simulated(log=str(simulators.path))
    stage.run(factory, stage.until(3, (0, 0), (1, 0)))
    stage.check_consistency(StopReason.INTERRUPTED)
    assert len(simulators.words("closed")) == 2
    wait_for(simulators.are_gone)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_cycle_that_takes_too_long_is_aborted_and_closed(
    stage: Stage, simulators: Simulators
) -> None:

    def direct() -> StopReason | None:
        return StopReason.INTERRUPTED if simulators.words("stuck") else None

    factory = Simulated(log=str(simulators.path), stuck="cycle")
    stage.run(factory, direct, workers=1)
    assert len(simulators.words("closed")) == 1
    wait_for(simulators.are_gone)
    assert not stage.unclosed


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_environments_that_do_not_close_are_killed_and_reported(
    stage: Stage, simulators: Simulators
) -> None:
    factory = Simulated(log=str(simulators.path), stuck="close")
    stage.run(
        factory,
        stage.until(3, (0, 0)),
        workers=1,
        close_timeout=0.5,
    )
    stage.check_consistency(StopReason.INTERRUPTED)
    wait_for(simulators.are_gone)
    assert len(stage.unclosed) == 1
    assert "worker 0 in Fake-v0 has not closed" in stage.unclosed[0]


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_environments_are_closed_after_a_failure(
    stage: Stage, simulators: Simulators, restarts: int
) -> None:
    factory = Simulated(log=str(simulators.path), raises=True)
    with pytest.raises(WorkerError, match="the pole broke"):
        stage.run(factory, never, workers=1, max_restarts=restarts, restart_on_error=True)
    assert len(simulators.words("closed")) == 1 + restarts
    wait_for(simulators.are_gone)


@pytest.mark.slow
def test_a_death_is_noticed_although_a_forked_process_holds_the_pipe(
    stage: Stage, simulators: Simulators
) -> None:
    factory = Simulated(point="cycle", log=str(simulators.path))
    stage.run(factory, stage.until(3, (1, 1)), max_restarts=1)
    stage.check_consistency(StopReason.INTERRUPTED)
    assert "killed by SIGKILL" in stage.restarts[0]
    wait_for(simulators.are_gone)


@pytest.mark.slow
def test_a_second_interrupt_kills_what_does_not_close(
    stage: Stage, simulators: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(process_pool, "wait_for_end", interrupted)
    factory = Simulated(log=str(simulators.path), stuck="close")
    with pytest.raises(KeyboardInterrupt):
        stage.run(factory, stage.until(3, (0, 0)), workers=1)
    wait_for(simulators.are_gone)


SCRIPT = """
import sys
import gymnasium
import numpy as np
import poise

class Local(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        observation = self.np_random.normal(size=2).astype(np.float32)
        return observation, float(action), False, self.steps >= 5, {}

def run():
    result = poise.train(
        WHAT, run_dir=RUN, launcher="processes", workers=2, envs_per_worker=2, rollout_length=5,
        max_steps=STEPS, selection_episodes=2, verification_episodes=2, hidden_sizes=(4,),
    )
    print("steps", result.summary["steps"], "launcher", result.summary["launcher"], flush=True)
    poise.replay(result.folder, **HOW)
    print("replayed", flush=True)
"""
GUARDED = SCRIPT + '\nif __name__ == "__main__":\n    run()\n'
UNGUARDED = SCRIPT + "\nrun()\n"


def text(script: str, folder: Path, steps: int = 60, registered: bool = False) -> str:
    script = script.replace("RUN", repr(str(folder / "run"))).replace("STEPS", str(steps))
    if registered:
        register = 'gymnasium.register("Local-v0", entry_point=Local); WHAT, HOW = "Local-v0", {}'
        return script.replace("def run():", f"def run():\n    {register}")
    return script.replace("WHAT", "Local").replace("**HOW", "environment=Local")


def python(*arguments: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def start(way: str, folder: Path) -> subprocess.CompletedProcess[str]:
    guarded = text(GUARDED, folder)
    (folder / "guarded.py").write_text(guarded)
    match way:
        case "script":
            return python("guarded.py", folder=folder)
        case "registered":
            (folder / "guarded.py").write_text(text(GUARDED, folder, registered=True))
            return python("guarded.py", folder=folder)
        case "module":
            return python("-m", "guarded", folder=folder)
        case "command":
            return python("-c", text(UNGUARDED, folder), folder=folder)
        case "stdin":
            return python("-", folder=folder, stdin=text(UNGUARDED, folder))
        case "notebook":
            # A kernel runs cells in the namespace of a __main__ that is not the user's file.
            (folder / "cell.txt").write_text(text(UNGUARDED, folder))
            kernel = "import __main__; exec(open('cell.txt').read(), __main__.__dict__)"
            return python("-c", kernel, folder=folder)
    raise ValueError(way)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["script", "registered", "module", "command", "stdin", "notebook"])
def test_it_works_for_every_way_to_start_python(way: str, tmp_path: Path) -> None:
    """With an environment that is defined in ``__main__``."""
    finished = start(way, tmp_path)
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[-1] == "replayed"
    assert lines[-2].endswith("launcher processes")


@pytest.mark.slow
def test_a_missing_guard_is_explained(tmp_path: Path) -> None:
    (tmp_path / "unguarded.py").write_text(text(UNGUARDED, tmp_path))
    finished = python("unguarded.py", folder=tmp_path)
    assert finished.returncode == 1
    last = finished.stderr.strip().splitlines()[-1]
    assert "poise.errors.InputError" in last
    assert "__name__ == '__main__'" in last
    assert "An attempt has been made to start a new process" not in finished.stderr
    assert "During handling of the above exception" not in finished.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
def test_children_exit_when_their_parent_is_killed(stopped: bool, tmp_path: Path) -> None:
    """Even a child that is stopped, and cannot react by itself."""
    if stopped and sys.platform != "linux":
        pytest.skip("only Linux kills a child with its parent")
    (tmp_path / "guarded.py").write_text(text(GUARDED, tmp_path, steps=10**9))
    parent = subprocess.Popen(
        [sys.executable, "guarded.py"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: has_learned(tmp_path / "run"))
        children = workers_of(parent.pid)
        assert len(children) == 2
        if stopped:
            os.kill(children[0], signal.SIGSTOP)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(map(is_alive, children)))


def has_learned(run: Path) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.is_file() and "update" in metrics.read_text()


def workers_of(parent: int) -> list[int]:
    """The spawned workers among a process's children (one is the resource tracker)."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no /proc")
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    children = [int(one) for task in tasks for one in task.read_text().split()]
    return [one for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_missing_guard_is_bad_input() -> None:
    assert InputError.exit_code == 2
