"""JAX's settings belong to the user: a run respects them, and its replay uses the run's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

import poise
from poise.errors import ConfigError, FileFormatError
from poise.training.jax_settings import (
    adopt_settings,
    decisive_settings,
    recorded_settings,
    require_usable_settings,
    settings_restored,
    shared_settings,
)

from ..small import copy, train

X64 = {"jax_enable_x64": True}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with settings_restored():
        yield


def test_a_run_is_replayed_under_its_own_settings(serial_run: Path) -> None:
    adopt_settings(X64)
    report = poise.replay(serial_run)
    assert "final.safetensors" in report.compared
    assert jax.config.jax_enable_x64


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_a_run_in_64_bits_is_replayed_in_them(tmp_path: Path, environment: str) -> None:
    adopt_settings(X64)
    few = {"max_steps": 200, "selection_episodes": 2, "verification_episodes": 2}
    folder = train(tmp_path / "run", environment=environment, **few).folder
    adopt_settings({"jax_enable_x64": False})
    poise.replay(folder)
    assert not jax.config.jax_enable_x64
    written = json.loads((folder / "config.json").read_text())["resolved"]["jax_settings"]
    assert written["jax_enable_x64"] is True


@pytest.mark.slow
def test_a_run_is_resumed_under_its_own_settings(serial_run: Path, tmp_path: Path) -> None:
    folder = copy(serial_run, tmp_path)
    adopt_settings(X64)
    poise.resume(folder, max_steps=2400)
    assert jax.config.jax_enable_x64
    poise.replay(folder)


@pytest.mark.slow
def test_worker_processes_have_the_settings_of_their_parent(tmp_path: Path) -> None:
    adopt_settings(X64)
    few = {"max_steps": 200, "selection_episodes": 2, "verification_episodes": 2, "workers": 1}
    poise.replay(train(tmp_path / "run", launcher="processes", **few).folder)


def test_shared_settings_can_be_adopted() -> None:
    before = shared_settings()
    adopt_settings(before)
    assert shared_settings() == before
    assert before.items() >= decisive_settings().items()
    json.dumps(decisive_settings())


def test_a_run_without_jit_is_refused(tmp_path: Path) -> None:
    with jax.disable_jit(), pytest.raises(ConfigError, match="jax_disable_jit"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_guarded_transfers_are_refused() -> None:
    with jax.transfer_guard("disallow"), pytest.raises(ConfigError, match="transfer_guard"):
        require_usable_settings()


def test_a_setting_of_one_thread_is_refused() -> None:
    with jax.numpy_rank_promotion("allow"), pytest.raises(ConfigError, match="this thread only"):
        require_usable_settings()


@pytest.mark.parametrize(
    "settings",
    [
        [],
        {"jax_platforms": "cpu"},
        {"jax_enable_x64": 1},
        {"jax_default_prng_impl": "dice"},
        {"jax_default_matmul_precision": "dice"},
        {"jax_random_seed_offset": 2**40},
        {"jax_threefry_partitionable": None},
    ],
)
def test_damaged_settings_are_refused(settings: Any) -> None:
    before = decisive_settings()
    with pytest.raises(FileFormatError, match="jax_"):
        recorded_settings({"jax_settings": settings})
    assert decisive_settings() == before


def test_older_runs_recorded_no_settings() -> None:
    assert recorded_settings({}) == {}
