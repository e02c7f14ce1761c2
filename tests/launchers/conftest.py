"""What surrounds a test of launchers."""

import multiprocessing
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.launchers import process_pool, threads

from .harness import Crew, Pipe


@pytest.fixture
def no_main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes do not begin with importing pytest, of which no fake needs anything."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))


@pytest.fixture
def nothing_is_left_behind() -> Iterator[None]:
    """Neither a process nor a thread."""
    before = set(threading.enumerate())
    yield
    assert not multiprocessing.active_children()
    assert set(threading.enumerate()) <= before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill soon, or leave behind soon, what hangs; what does not hang needs far less."""
    monkeypatch.setattr(process_pool, "LEAVE_SECONDS", 0.5)
    monkeypatch.setattr(threads, "LEAVE_SECONDS", 1.0)


@pytest.fixture
def crew() -> Crew:
    return Crew()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "pipe")
    yield pipe
    pipe.wake()
