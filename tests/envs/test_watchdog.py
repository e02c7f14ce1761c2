"""Calls of any kind that take too long in the main thread are interrupted there."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from poise.envs import watchdog
from poise.envs.deadlines import run_with_deadline
from poise.envs.watchdog import Watchdog, can_interrupt
from poise.errors import DeadlineError, EnvironmentCheckError, PoiseError

PATIENCE = 60.0


def overdue() -> PoiseError:
    return DeadlineError("too long")


def sleeps() -> None:
    time.sleep(PATIENCE)


def waits_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def reads_a_pipe() -> None:
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.read()
        finally:
            process.kill()


def loops_forever() -> None:
    while True:
        pass


def catches_exceptions() -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(PATIENCE)


def raises_another_error() -> None:
    try:
        time.sleep(PATIENCE)
    except BaseException as error:
        raise RuntimeError("the simulator has gone") from error


@pytest.mark.parametrize(
    "hangs",
    [
        sleeps,
        waits_for_a_lock,
        reads_a_pipe,
        loops_forever,
        catches_exceptions,
        raises_another_error,
    ],
)
def test_hanging_calls_are_interrupted(hangs: Callable[[], None]) -> None:
    before = signal.getsignal(signal.SIGURG)
    with Watchdog(overdue, 0.001) as guard, pytest.raises(DeadlineError, match="too long"):
        guard.run(hangs)
    assert signal.getsignal(signal.SIGURG) == before


def test_an_exception_that_is_swallowed_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PATIENCE", 0.01)

    def swallows() -> None:
        with contextlib.suppress(BaseException):
            time.sleep(PATIENCE)
        time.sleep(PATIENCE)

    with Watchdog(overdue, 0.001) as guard, pytest.raises(DeadlineError, match="too long"):
        guard.run(swallows)


def test_calls_that_no_exception_stops_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PATIENCE", 0.01)
    given_up: list[PoiseError] = []
    gone = threading.Event()

    def give_up(error: PoiseError) -> None:
        given_up.append(error)
        gone.set()

    def catches_everything() -> None:
        while not gone.is_set():
            with contextlib.suppress(BaseException):
                gone.wait(PATIENCE)

    with Watchdog(overdue, 0.001, give_up) as guard:
        guard.run(catches_everything)
    assert [str(error) for error in given_up] == ["too long"]


def test_nothing_is_raised_between_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    late = threading.Event()
    with Watchdog(lambda: overdue() if late.is_set() else None, 0.001) as guard:
        looked: list[float] = []
        wait = guard.ended.wait
        monkeypatch.setattr(guard.ended, "wait", lambda pause: looked.append(pause) or wait(pause))
        assert guard.run(lambda: 1) == 1
        late.set()
        # The watchdog may already have been in one wait.
        enough = len(looked) + 3
        while len(looked) < enough:
            time.sleep(0.001)
        late.clear()
        assert guard.run(lambda: 2) == 2


def test_run_with_deadline_works_in_this_or_another_thread() -> None:
    main = threading.get_ident()
    assert can_interrupt()
    assert run_with_deadline(threading.get_ident, PATIENCE, "toy") == main
    assert run_with_deadline(threading.get_ident, PATIENCE, "toy", elsewhere=True) != main
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(can_interrupt()))
    thread.start()
    thread.join()
    assert found == [False]


def test_run_with_deadline_interrupts_calls_in_the_main_thread() -> None:
    with pytest.raises(EnvironmentCheckError, match="toy has not answered"):
        run_with_deadline(sleeps, 0.01, "toy")


SCRIPT = """
import ctypes, signal
from poise.envs import watchdog
from poise.envs.deadlines import run_with_deadline

watchdog.PATIENCE = 0.05
library, semaphore = ctypes.CDLL(None), ctypes.create_string_buffer(64)
library.sem_init(semaphore, 0, 0)
# In C, with the signal blocked before the deadline, however slow the machine is.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
run_with_deadline(lambda: library.sem_wait(semaphore), 0.05, "toy")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="unnamed semaphores")
def test_the_process_ends_where_a_c_library_hangs() -> None:
    """It reports the error and exits with the code of bad input, as no run has begun."""
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert finished.returncode == 2
    assert "poise: the environment toy has not answered" in finished.stderr
