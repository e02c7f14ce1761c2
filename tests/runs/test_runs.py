"""Whole runs: deterministic where promised, replayable always, and they learn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.learning.events import EpisodeFinished
from poise.runs.evaluation import score, student_t_quantile

SMALL: dict[str, Any] = {
    "max_steps": 2000,
    "evaluation_interval": 700,
    "selection_episodes": 2,
    "verification_episodes": 3,
    "hidden_sizes": (8,),
}


def timeless(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "wall_time"} for row in rows]


def test_serial_runs_with_one_seed_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    folders = [
        poise.train(run_dir=tmp_path / name, launcher="serial", seed=3, workers=2, **SMALL).folder
        for name in ("one", "two")
    ]
    for name in ("journal", "best.safetensors", "final.safetensors", "config.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    metrics = [timeless(folder / "metrics.jsonl") for folder in folders]
    assert metrics[0] == metrics[1]
    curves = [(folder / "learning_curve.png").read_bytes() for folder in folders]
    assert curves[0] == curves[1]


def test_a_run_of_four_threads_replays_bit_for_bit(tmp_path: Path) -> None:
    result = poise.train(run_dir=tmp_path / "run", launcher="threads", workers=4, **SMALL)
    report = poise.replay(result.folder)
    assert report.compared == ("final.safetensors", "best.safetensors")
    assert report.steps == result.summary["steps"]
    assert report.warnings == ()


def test_budgets_and_subscribers(tmp_path: Path) -> None:
    seen: list[EpisodeFinished] = []

    def subscriber(when: float, event: object) -> None:
        assert when >= 0
        if isinstance(event, EpisodeFinished):
            seen.append(event)

    settings = {**SMALL, "max_steps": None, "max_episodes": 12}
    result = poise.train(run_dir=tmp_path / "run", subscriber=subscriber, **settings)
    assert result.summary["stopped"] == "max_episodes"
    assert len(seen) == result.summary["episodes"] >= 12
    assert [event.episode for event in seen] == list(range(1, len(seen) + 1))


def test_seconds_end_a_run(tmp_path: Path) -> None:
    settings = {**SMALL, "max_steps": None, "max_seconds": 0.01}
    result = poise.train(run_dir=tmp_path / "run", stop_when_solved=False, **settings)
    assert result.summary["stopped"] == "max_seconds"
    assert poise.replay(result.folder).steps == result.summary["steps"]


def test_the_failure_reward_is_no_score(tmp_path: Path) -> None:
    result = poise.train(run_dir=tmp_path / "run", failure_reward=-1.0, seed=1, **SMALL)
    rows = timeless(result.folder / "metrics.jsonl")
    episodes = [row for row in rows if row["kind"] == "episode"]
    assert episodes
    assert all(row["return"] == row["length"] for row in episodes)


def test_cartpole_is_solved(tmp_path: Path) -> None:
    """Random play reaches 22; default settings, serial, so that it is the same every time."""
    result = poise.train(run_dir=tmp_path / "run", launcher="serial", seed=0, workers=2)
    assert result.solved
    assert result.summary["steps"] <= 200_000
    assert result.summary["evaluation"]["mean"] >= 475
    fresh = poise.evaluate(result.folder, episodes=20, seed=99)
    assert fresh.mean >= 450
    policy = poise.load(result.folder)
    assert policy.act(np.array([0, 0, 0.2, 2.0], np.float32)) == 1, "it falls right: push right"
    assert policy.act(np.array([0, 0, -0.2, -2.0], np.float32)) == 0


def test_cartpole_v0_trains_without_its_deprecation(tmp_path: Path) -> None:
    result = poise.train("CartPole-v0", run_dir=tmp_path / "run", **SMALL)
    assert result.summary["target_return"] == 195
    assert (
        max(row["length"] for row in timeless(result.folder / "metrics.jsonl") if "length" in row)
        <= 200
    )


def test_scores_are_the_statistics_of_the_returns() -> None:
    returns = np.array([3.0, 5.0, 8.0, 8.0])
    found = score(returns, np.array([3, 5, 8, 8]), greedy=True, cut=1)
    assert found.mean == 6.0
    assert found.standard_error == pytest.approx(np.std(returns, ddof=1) / 2)
    margin = 3.182446305284263 * found.standard_error
    assert (found.low, found.high) == (pytest.approx(6 - margin), pytest.approx(6 + margin))
    assert (found.minimum, found.maximum, found.episodes, found.steps) == (3.0, 8.0, 4, 24)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (7, 2.36462), (9, 2.26216), (19, 2.09302), (99, 1.98422)],
)
def test_student_t(freedom: int, expected: float) -> None:
    assert student_t_quantile(freedom) == pytest.approx(expected, abs=1e-4)
