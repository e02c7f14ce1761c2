"""Runs that many tests read, and none changes."""

import os
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from .small import train

__all__ = [
    "compiled_once",
    "elsewhere",
    "serial_run",
    "threads_run",
]


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> None:
    """Compile equal programs only once, in whatever order the tests run.

    poise sets up the same cache, but only if nothing has been computed before.
    """
    folder = os.path.join(os.environ["XDG_CACHE_HOME"], "poise", "xla")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()


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
