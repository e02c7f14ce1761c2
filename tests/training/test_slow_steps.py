"""Environments with slow steps: evaluations take a bounded share, which is decided once."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import poise
from poise.envs import trial_play
from poise.learning.best_policy import BestPolicyTracker
from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.learning.server_settings import ServerSettings
from poise.storage.config_digest import sealed
from poise.training import environment_check, placement
from poise.trajectory import Snapshot

from ..small import rows

SLOW = environment_check.SLOW_STEP_SECONDS
"""The value that no test has changed."""

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")
SMALL: dict[str, Any] = {
    "world": "copies",
    "launcher": "serial",
    "workers": 2,
    "envs_per_worker": 2,
    "rollout_length": 5,
    "hidden_sizes": (4,),
    "max_steps": 1200,
    "evaluation_interval": 100,
}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every step as slow."""
    monkeypatch.setattr(environment_check, "SLOW_STEP_SECONDS", -1.0)


def train(folder: Path, **settings: Any) -> Any:
    return poise.train("CartPole-v1", run_dir=folder, **{**SMALL, **settings})


def spent(folder: Path) -> int:
    return sum(row["selection"]["steps"] for row in rows(folder, "evaluation"))


@pytest.mark.usefixtures("slow")
def test_evaluations_are_limited_also_in_a_replay_and_after_resuming(tmp_path: Path):
    run = train(tmp_path / "run", seed=2)
    decided = json.loads((run.folder / "config.json").read_text())["resolved"]
    assert decided["slow_steps"] is True
    assert 0 < spent(run.folder) < run.summary["steps"] / 5
    assert 3 <= run.summary["evaluation"]["episodes"] < 20
    assert run.summary["evaluation"]["steps"] < run.summary["steps"] / 5
    assert poise.replay(run.folder).steps == run.summary["steps"]
    poise.resume(run.folder, max_steps=2400)
    assert spent(run.folder) < 2400 / 5
    poise.replay(run.folder)


@pytest.mark.usefixtures("slow")
def test_no_fewer_episodes_than_a_flag_asks_for(tmp_path: Path):
    run = train(tmp_path / "run", verification_episodes=90, selection_episodes=7)
    assert run.summary["evaluation"]["episodes"] == 90
    assert {row["selection"]["episodes"] for row in rows(run.folder, "evaluation")} == {7}


@pytest.mark.parametrize("seconds", [1e-3, 3e-3])
def test_evaluations_are_limited_only_if_steps_are_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
):
    monkeypatch.setattr(environment_check, "SLOW_STEP_SECONDS", SLOW)
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: seconds * next(looks))
    monkeypatch.setattr(trial_play, "time", clock)
    run = train(tmp_path / "run", max_steps=300)
    slow = json.loads((run.folder / "config.json").read_text())["resolved"]["slow_steps"]
    assert slow is (seconds > SLOW)
    assert (run.summary["evaluation"]["episodes"] == 100) is not slow


def test_an_evaluation_waits_until_training_has_taken_ten_times_as_long():
    settings = ServerSettings(
        1.0, None, None, None, 10, None, True, selection_episodes=4, training_ratio=20
    )
    # A hundred steps in five episodes: four more episodes take 80 steps.
    assert settings.training_before_evaluation(100, 5) == 20 * 80
    # The length of an episode is unknown until it ends.
    assert settings.training_before_evaluation(100, 0) > 100
    assert settings._replace(training_ratio=0).training_before_evaluation(100, 5) == 0
    score = Score(1.0, 0.0, 1.0, 1.0, 1.0, 1.0, episodes=4, greedy=True, cut=0, steps=50)
    snapshot = Snapshot(np.int32(0), np.zeros(1, np.float32))
    for ratios, interval in (((0, 0), 50), ((20, 20), 1000), ((0, 8), 400), ((20, 8), 1000)):
        best_policy = BestPolicyTracker(10, *ratios)
        best_policy.add(Candidate(snapshot, 100), EvaluationResult(score, None, False))
        assert best_policy.state.interval == interval
        assert not best_policy.due(100 + interval, least=interval + 1)
        assert best_policy.due(100 + interval, least=interval)


def test_only_the_usual_episodes_of_a_selection_delay_the_next():
    """A candidate that seems to reach the target plays many more, in EnvPool."""
    snapshot = Snapshot(np.int32(0), np.zeros(1, np.float32))
    for episodes, interval in ((4, 4000), (5, 3200), (100, 500)):
        score = Score(1.0, 0.0, 1.0, 1.0, 1.0, 1.0, episodes, greedy=True, cut=0, steps=500)
        tracker = BestPolicyTracker(10, 0, 8, selection_episodes=4)
        tracker.add(Candidate(snapshot, 100), EvaluationResult(score, None, False))
        assert tracker.state.interval == interval
        # However good training looks: as much of it as the evaluation took.
        if episodes > 4:
            assert not tracker.due(599, is_promising=True)
            assert tracker.due(100 + interval, is_promising=True)


def test_selection_is_not_sparing_while_training_episodes_reach_the_target():
    score = Score(1.0, 0.0, 1.0, 1.0, 1.0, 1.0, episodes=4, greedy=True, cut=0, steps=50)
    snapshot = Snapshot(np.int32(0), np.zeros(1, np.float32))
    tracker = BestPolicyTracker(10, 0, 8)
    tracker.add(Candidate(snapshot, 100), EvaluationResult(score, None, False))
    assert not tracker.due(499)
    assert tracker.due(500)
    assert not tracker.due(149, is_promising=True)
    assert tracker.due(150, is_promising=True)
    # A failed verification: selection is sparing again until the next may follow.
    failed = EvaluationResult(score, score, False)
    tracker.add(Candidate(snapshot, 1000), failed)
    assert tracker.state.verify_at == 1062
    assert not tracker.due(1061, is_promising=True)
    assert tracker.due(1062, is_promising=True)


@pytest.mark.slow
def test_selections_in_the_environment_take_a_ninth_of_the_steps(tmp_path: Path):
    run = train(tmp_path / "run", max_steps=2000, evaluation_interval=64)
    # All but the last two: one of the end, and the one before, which training has yet to follow.
    paid = rows(run.folder, "evaluation")[:-2]
    assert 0 < sum(row["selection"]["steps"] for row in paid) <= 2000 / 8
    assert poise.replay(run.folder).steps == run.summary["steps"]


@pytest.mark.slow
def test_a_run_that_did_not_select_sparingly_is_replayed_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(placement, "TRAINING_TO_SELECTION", 0)
        run = train(tmp_path / "run", max_steps=2000, evaluation_interval=64)
    path = run.folder / "config.json"
    content = json.loads(path.read_text())
    assert content["resolved"].pop("selects_sparingly") is True
    path.write_text(json.dumps(sealed(content)))
    poise.replay(run.folder)
