"""Environments bound to the thread that made them are used in one thread: the main thread."""

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium
import pytest

import poise
from poise.envs.deadlines import BackgroundCall
from poise.errors import EnvironmentCheckError
from poise.launchers import serial

from ..environments import Ends
from ..small import train

PATIENCE = 60.0

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


class Database(Ends):
    """Holds an SQLite connection, which no other thread may use."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = sqlite3.connect(":memory:")

    def step(self, action: Any) -> Any:
        self.connection.execute("select 1").fetchone()
        return super().step(action)

    def close(self) -> None:
        self.connection.close()
        super().close()


class Loop(Ends):
    """Runs an event loop of the main thread."""

    def __init__(self) -> None:
        super().__init__()
        assert threading.current_thread() is threading.main_thread()
        self.loop = asyncio.new_event_loop()

    def step(self, action: Any) -> Any:
        self.loop.run_until_complete(asyncio.sleep(0))
        return super().step(action)

    def close(self) -> None:
        self.loop.close()
        super().close()


class Handler(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Installs a signal handler; on closing, each copy restores the one that it found."""

    def __init__(self) -> None:
        super().__init__(Ends())
        self.before = signal.signal(signal.SIGTERM, self._leave)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        raise SystemExit(143)

    def close(self) -> None:
        signal.signal(signal.SIGTERM, self.before)
        super().close()


BOUND = [Database, Loop, Handler]
SMALL = {"workers": 2, "envs_per_worker": 2, "max_steps": 100}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Check that the signal handlers are restored after each test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGURG)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("bound", BOUND)
def test_the_serial_launcher_supports_them(bound: Any, tmp_path: Path) -> None:
    result = train(tmp_path / "run", environment=bound, launcher="serial", **SMALL)
    assert result.summary["steps"] >= 100
    assert result.summary["evaluation"]["episodes"]
    poise.replay(result.folder, environment=bound)
    poise.evaluate(result.folder, environment=bound, episodes=3)


@pytest.mark.parametrize("bound", BOUND)
def test_the_threads_launcher_refuses_them(bound: Any, tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentCheckError, match='use launcher="serial" or "processes"'
    ) as caught:
        train(tmp_path / "run", environment=bound, launcher="threads", **SMALL)
    assert str(caught.value).count("\n") == 0
    assert bound.__name__ in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_signal_stops_the_run_although_an_environment_replaced_the_handler(
    tmp_path: Path,
) -> None:
    def send(clock: float, event: Any) -> None:
        if type(event).__name__ == "Updated" and event.update == 3:
            signal.raise_signal(signal.SIGTERM)

    settings = {**SMALL, "max_steps": 10**9}
    result = train(
        tmp_path / "run", environment=Handler, launcher="serial", callbacks=[send], **settings
    )
    assert result.reason.name == "TERMINATED"


def test_training_in_another_thread_gives_the_same_run(tmp_path: Path) -> None:
    here = train(tmp_path / "here", environment=Ends, launcher="serial", **SMALL)
    background_call = BackgroundCall(
        lambda: train(tmp_path / "there", environment=Ends, launcher="serial", **SMALL)
    )
    assert background_call.is_done(PATIENCE)
    there = background_call.outcome()
    assert (here.folder / "journal").read_bytes()[-200:] == (there.folder / "journal").read_bytes()[
        -200:
    ]


class Sleepy(Ends):
    """Blocks forever in one of its steps, after a Ctrl-C."""

    taken = 0

    def step(self, action: Any) -> Any:
        Sleepy.taken += 1
        if Sleepy.taken == 200:
            signal.raise_signal(signal.SIGINT)
            threading.Event().wait()
        return super().step(action)


def test_a_hanging_step_is_abandoned_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial, "LEAVE_SECONDS", 0.1)
    Sleepy.taken = 0
    settings = {**SMALL, "max_steps": 10**9, "evaluation_interval": 10**9}
    result = train(tmp_path / "run", environment=Sleepy, launcher="serial", **settings)
    assert result.reason.name == "INTERRUPTED"
    assert (tmp_path / "run" / "final.safetensors").exists()
    poise.replay(result.folder, environment=Ends)
