"""Circumstances of a run: event loops, other threads, other folders, no HOME."""

import asyncio
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import poise
from poise.training.runtime import usable_cache_folder

from ..small import train

FEW: dict[str, Any] = {"max_steps": 300, "selection_episodes": 2, "verification_episodes": 2}

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


class Wanders(gymnasium.Env[Any, Any]):
    """Changes the current folder, as simulators do."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        os.chdir(os.environ["SIMULATOR"])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.random(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.np_random.random(2, np.float32), 1.0, False, self.steps >= 20, {}


@pytest.mark.parametrize("run_dir", ["runs/here", None])
@pytest.mark.parametrize("launcher", ["serial", "threads"])
def test_an_environment_that_changes_the_folder_does_not_move_files(
    launcher: str, run_dir: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("SIMULATOR", str(there))
    few = {**FEW, "launcher": launcher, "workers": 1}
    result = poise.train(Wanders, run_dir=run_dir, **few)
    assert result.folder.is_absolute()
    assert (result.folder / "summary.json").is_file()
    assert (result.folder / "learning_curve.png").is_file()
    assert list(there.iterdir()) == []
    monkeypatch.chdir(here)
    found = result.folder.relative_to(here)
    poise.replay(found, environment=Wanders)
    monkeypatch.chdir(here)
    assert poise.evaluate(found, episodes=2, environment=Wanders).mean == 20
    monkeypatch.chdir(here)
    assert poise.resume(found, max_steps=400, environment=Wanders).folder == result.folder
    assert list(there.iterdir()) == []


class Notes(gymnasium.Env[Any, Any]):
    """Logs when it is made and reset, in one file for all copies in all processes."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    made = 0

    def __init__(self) -> None:
        Notes.made += 1
        self.name = f"{os.getpid()}-{Notes.made}"
        self.note("made")

    def note(self, what: str) -> None:
        with open(os.environ["NOTES"], "a") as file:
            file.write(f"{self.name} {what}\n")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.note("reset")
        self.steps = 0
        return self.np_random.random(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.np_random.random(2, np.float32), 1.0, False, self.steps >= 20, {}


@pytest.mark.parametrize(
    ("launcher", "copies"),
    [
        ("threads", 3),
        pytest.param("processes", 4, marks=pytest.mark.slow),
        pytest.param("processes", 1, marks=pytest.mark.slow),
    ],
)
def test_every_copy_is_made_before_one_is_reset(
    launcher: str, copies: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A constructor may set up what another copy's reset reads, such as a file.
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    few = {**FEW, "workers": 2, "envs_per_worker": 2, "evaluation_copies": copies}
    poise.train(Notes, run_dir=tmp_path / "run", launcher=launcher, **few)
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    # The copies of the check before training were made and reset earlier.
    last = [name for name, what in notes if what == "made"][-4 - copies :]
    told = [what for name, what in notes if name in last]
    assert told[: len(last)] == ["made"] * len(last)
    assert set(told[len(last) :]) == {"reset"}


def test_inside_an_event_loop(tmp_path: Path) -> None:
    async def job() -> str:
        return str(train(tmp_path / "run", **FEW).summary["stopped"])

    assert asyncio.run(job()) == "max_steps"


def test_two_at_once_in_side_threads(tmp_path: Path) -> None:
    stopped = {}

    def job(name: str) -> None:
        stopped[name] = train(tmp_path / name, **FEW).summary["stopped"]

    jobs = [threading.Thread(target=job, args=(name,)) for name in ("one", "two")]
    for each in jobs:
        each.start()
    for each in jobs:
        each.join()
    assert stopped == {"one": "max_steps", "two": "max_steps"}
    reports = [poise.replay(tmp_path / name) for name in ("one", "two")]
    # The runs do not influence each other.
    assert reports[0].final_hash == reports[1].final_hash


def test_a_path_with_spaces_and_umlauts(tmp_path: Path) -> None:
    folder = train(tmp_path / "mit Leerzeichen und Ümläuten", **FEW).folder
    assert "final.safetensors" in poise.replay(folder).compared


# --- A cache folder -------------------------------------------------------------------------------


def test_a_cache_folder_that_is_given_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert usable_cache_folder() == tmp_path / "cache" / "poise" / "xla"


@pytest.mark.parametrize("place", ["HOME", "XDG_CACHE_HOME"])
def test_a_cache_that_cannot_be_written_costs_one_warning(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(place, str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="no cache folder") as said:
        assert usable_cache_folder() is None
    assert len(said) == 1


def test_without_a_home_and_a_user_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.warns(RuntimeWarning, match="no cache folder"):
        assert usable_cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with warnings.catch_warnings(action="error"):
        assert usable_cache_folder() == tmp_path / "poise" / "xla"
