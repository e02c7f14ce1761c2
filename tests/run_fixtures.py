"""Runs that many tests read, and none changes."""

from pathlib import Path

import pytest

from .small import train

__all__ = [
    "elsewhere",
    "serial_run",
    "threads_run",
]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs without a given folder are written to the test's folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def serial_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two workers in turn."""
    return train(tmp_path_factory.mktemp("runs") / "serial").folder


@pytest.fixture(scope="session")
def threads_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with four workers in threads."""
    folder = tmp_path_factory.mktemp("runs") / "threads"
    return train(folder, launcher="threads", workers=4).folder
