"""Fixtures for the tests of launchers."""

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
    """Worker processes do not import pytest, because no fake worker needs it."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))


@pytest.fixture
def nothing_is_left_behind() -> Iterator[None]:
    """Check that the test leaves no process and no thread behind."""
    before = set(threading.enumerate())
    yield
    assert not multiprocessing.active_children()
    assert set(threading.enumerate()) <= before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill or abandon soon what hangs; anything else needs far less time."""
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
