"""IMPALA, APPO, Q-learning and Sarsa: whole runs, under every launcher."""

import json
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.cli import main
from poise.errors import UnsupportedSpaceError

from ..small import rows, train

FEW: dict[str, Any] = {
    "workers": 3,
    "max_steps": 1500,
    "target_interval": 300,
    "exploration_steps": 1000,
}
NAMES = "impala", "appo", "nstep_q", "one_step_q", "one_step_sarsa"
SIMILAR = "appo", "one_step_q", "one_step_sarsa"

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


def cases(names: tuple[str, ...]) -> list[Any]:
    """Return algorithms as parameters; those that share their parts with others are slow ones."""
    return [pytest.param(one, marks=pytest.mark.slow if one in SIMILAR else ()) for one in names]


@pytest.mark.parametrize("world", ["compiled", pytest.param("copies", marks=pytest.mark.slow)])
@pytest.mark.parametrize("launcher", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", cases(NAMES))
def test_a_run_is_replayed_exactly(name: str, launcher: str, world: str, tmp_path: Path) -> None:
    chosen = {**FEW, "algorithm": name, "launcher": launcher, "world": world}
    result = train(tmp_path / "run", **chosen)
    assert result.summary["steps"] >= 1500
    report = poise.replay(tmp_path / "run")
    assert "final.safetensors" in report.compared


@pytest.mark.parametrize("name", cases(NAMES))
def test_a_resumed_run_equals_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **FEW, algorithm=name)
    train(tmp_path / "parts", **{**FEW, "max_steps": 700}, algorithm=name)
    resumed = poise.resume(tmp_path / "parts", max_steps=1500, quiet=True)
    assert resumed.summary["steps"] == whole.summary["steps"]
    poise.replay(tmp_path / "parts")


def test_a_batch_of_impala_has_a_rollout_for_each_worker(tmp_path: Path) -> None:
    result = train(tmp_path / "run", **FEW, algorithm="impala", record_every=1)
    updates = rows(tmp_path / "run", "update")
    assert len(updates) == 3 * result.summary["updates"]
    # Serially, only the last worker of a batch is answered after the server has learned.
    assert {row["staleness"] for row in updates} == {0, 1}
    assert all(0 < row["importance_weight"] <= 1 for row in updates)


def test_epsilon_is_logged_as_it_falls(tmp_path: Path) -> None:
    train(tmp_path / "run", **FEW, algorithm="nstep_q", record_every=1, final_epsilon=0.1)
    epsilons = [row["epsilon"] for row in rows(tmp_path / "run", "update")]
    assert epsilons[0] == 1.0
    assert epsilons == sorted(epsilons, reverse=True)
    assert epsilons[-1] == pytest.approx(0.1, abs=1e-5)


def test_a_policy_of_action_values_is_evaluated_both_ways(tmp_path: Path) -> None:
    result = train(tmp_path / "run", **FEW, algorithm="nstep_q", policy="sampled")
    assert result.policy.mode == "sampled"
    assert poise.load(tmp_path / "run").agent.spec.action_values


@pytest.mark.parametrize("name", ["nstep_q", "one_step_sarsa"])
def test_continuous_actions_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnsupportedSpaceError, match="Discrete"):
        train(tmp_path / "run", environment="Pendulum-v1", algorithm=name)
    options = "--preset", "none", "--run-dir", str(tmp_path / "other"), "--algorithm", name
    assert main(["train", "Pendulum-v1", *options]) == 2
    assert "choose another --algorithm" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_summary_names_the_algorithm(tmp_path: Path) -> None:
    train(tmp_path / "run", **FEW, algorithm="nstep_q")
    assert json.loads((tmp_path / "run/summary.json").read_text())["algorithm"] == "nstep_q"
