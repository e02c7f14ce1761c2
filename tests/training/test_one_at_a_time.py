"""An environment of which only one copy may be open: trained, scored, replayed, or refused."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.config import TrainConfig
from poise.envs.env_factory import find_env_factory
from poise.envs.env_lookup import import_path
from poise.errors import EnvironmentCheckError
from poise.learning.worker import Releases
from poise.training.assembly import build_components

from ..environments import Faulty

PATIENCE = 60.0
NAME = "tests.environments:OnlyOne"
pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")
SMALL: dict[str, Any] = {
    "workers": 1,
    "hidden_sizes": (4,),
    "max_steps": 300,
    "evaluation_interval": 100,
    "selection_episodes": 2,
    "verification_episodes": 3,
    "seed": 1,
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes find ``tests.environments``."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def settings(tmp_path: Path, **others: Any) -> dict[str, Any]:
    taken = tmp_path / "taken"
    return {**SMALL, "env_kwargs": (f"taken={taken}",), "envs_per_worker": 1, **others}


@pytest.mark.parametrize(
    "launcher", ["serial", "threads", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_one_copy_is_open_at_a_time_and_the_run_replays(tmp_path: Path, launcher: str):
    given = settings(tmp_path, launcher=launcher)
    result = poise.train(NAME, run_dir=tmp_path / "run", **given)
    assert result.summary["evaluation"]["episodes"] == 3
    assert result.summary["random_baseline"] is not None
    assert not (tmp_path / "taken").exists()
    poise.replay(tmp_path / "run", trust=True)
    assert not (tmp_path / "taken").exists()


def test_an_end_by_the_clock_waits_for_the_current_cycle(tmp_path: Path):
    given = settings(tmp_path, launcher="threads", max_steps=None, max_seconds=0.05)
    poise.train(NAME, run_dir=tmp_path / "run", **given)
    poise.replay(tmp_path / "run", trust=True)


def test_a_resumed_run_replays(tmp_path: Path):
    poise.train(NAME, run_dir=tmp_path / "run", **settings(tmp_path, launcher="serial"))
    poise.resume(tmp_path / "run", max_steps=600, trust=True)
    assert poise.replay(tmp_path / "run", trust=True).steps >= 600


def test_it_is_refused_if_more_copies_are_needed(tmp_path: Path):
    given = settings(tmp_path, workers=2, envs_per_worker=3)
    with pytest.raises(EnvironmentCheckError) as caught:
        poise.train(NAME, run_dir=tmp_path / "run", **given)
    text = str(caught.value)
    assert "the port is in use" in text
    assert "14 are open at a time" in text
    assert "workers=1, envs_per_worker=1" in text
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "taken").exists()


def test_its_policy_is_scored_in_one_copy_with_a_warning(tmp_path: Path):
    poise.train(NAME, run_dir=tmp_path / "run", **settings(tmp_path, launcher="serial"))
    alone = poise.evaluate(tmp_path / "run", episodes=3, copies=1, trust=True)
    with pytest.warns(RuntimeWarning, match=r"continues with 1 .*the port is in use"):
        assert poise.evaluate(tmp_path / "run", episodes=3, trust=True) == alone


class Gated(Faulty):
    """Waits in a step until the test opens the gate."""

    reached, gate = threading.Event(), threading.Event()

    def step(self, action: Any) -> Any:
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        return super().step(action)


def test_release_waits_for_the_cycle_and_the_next_one_has_other_seeds():
    config = TrainConfig(import_path(Gated), world="copies", **SMALL)
    components = build_components(config, find_env_factory(config.environment_choice, Gated))
    components.compile()
    worker = components.worker(0)
    states = [worker.initial_state()]
    snapshot = components.first_snapshot()
    assert isinstance(worker, Releases)
    seeds = [worker.seed]
    for _ in range(2):
        Gated.gate.clear()
        Gated.reached.clear()
        cycle = threading.Thread(
            target=lambda: states.append(worker.cycle(snapshot, states[-1])[1])
        )
        cycle.start()
        assert Gated.reached.wait(PATIENCE)
        release = threading.Thread(target=worker.release)
        release.start()
        assert worker.describe_activity()
        assert release.is_alive()
        Gated.gate.set()
        cycle.join()
        release.join()
        worker.release()
        assert worker.describe_activity() == ""
        before = states[-1]
        states.append(worker.cycle(snapshot, before)[1])
        assert states[-1].cycle == before.cycle + 1
        assert not np.array_equal(states[-1].observation, before.observation)
        seeds.append(worker.seed)
    assert len(set(seeds)) == 3
    components.close()
