"""Greedy and sampled policies: selected, scored and saved, on a task that needs sampling."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.agent.policy_file import policy_from_bytes, policy_to_bytes
from poise.cli import main
from poise.errors import FileFormatError
from poise.evaluation.play import play

from ..environments import Corridor

OPTIMUM = -11.6
SETTINGS: dict[str, Any] = {
    "environment": Corridor,
    "workers": 1,
    "launcher": "serial",
    "max_steps": 6000,
    "evaluation_interval": 3000,
    "verification_episodes": 40,
}

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory, shared_programs: None) -> Any:
    return poise.train(**SETTINGS, run_dir=tmp_path_factory.mktemp("greedy") / "run")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory, shared_programs: None) -> Any:
    folder = tmp_path_factory.mktemp("sampled") / "run"
    return poise.train(**SETTINGS, run_dir=folder, policy="sampled", target_return=-13.5)


def test_a_greedy_run_reports_both_scores_and_names_the_setting(greedy: Any) -> None:
    assert greedy.summary["evaluation"]["mean"] == -200.0
    assert greedy.summary["sampled_evaluation"]["mean"] > 1.5 * OPTIMUM
    assert greedy.summary["sampled_evaluation"]["greedy"] is False
    assert any("--policy sampled" in one for one in greedy.summary["findings"])


def test_a_sampled_run_is_selected_verified_and_solved_by_samples(sampled: Any) -> None:
    summary = sampled.summary
    assert summary["solved"] is True
    assert summary["policy"] == "sampled"
    assert summary["evaluation"]["greedy"] is False
    assert -13.5 <= summary["evaluation"]["mean"] <= OPTIMUM + 2.0
    assert summary["sampled_evaluation"] is None
    poise.replay(sampled.folder, environment=Corridor)


def test_the_saved_policy_acts_as_it_was_scored(sampled: Any, greedy: Any) -> None:
    policy = poise.load(sampled.folder)
    assert policy.mode == "sampled"
    assert poise.load(greedy.folder).mode == "greedy"
    scored = poise.evaluate(policy, episodes=20, environment=Corridor)
    assert scored.greedy is False
    assert scored.mean > 2 * OPTIMUM
    assert poise.evaluate(policy, episodes=2, greedy=True, environment=Corridor).mean == -200.0
    actions = {policy.act(np.ones(1, np.float32)) for _ in range(40)}
    assert actions == {0, 1}
    assert len({policy.act(np.ones(1, np.float32), greedy=True) for _ in range(9)}) == 1
    lengths = [step.step for step in play(policy, episodes=5, environment=Corridor) if step.ended]
    assert max(lengths) < 200
    assert lengths == [s.step for s in play(policy, episodes=5, environment=Corridor) if s.ended]


def test_commands_follow_the_policy_and_their_flag(
    sampled: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(sampled.folder)
    assert main(["evaluate", run, "--episodes=4", "--trust"]) == 0
    assert "sampled actions, 4 episodes" in capsys.readouterr().out
    assert main(["evaluate", run, "--episodes=2", "--trust", "--policy=greedy"]) == 0
    assert "greedy actions, 2 episodes" in capsys.readouterr().out
    assert main(["play", run, "--trust", "--policy=greedy"]) == 0
    assert "truncated after 200 steps" in capsys.readouterr().out


def test_a_file_with_another_mode_is_refused(greedy: Any, tmp_path: Path) -> None:
    policy = poise.load(greedy.folder)
    policy.mode = "hopeful"  # type: ignore[assignment]
    with pytest.raises(FileFormatError, match="its mode is 'hopeful'"):
        policy_from_bytes(policy_to_bytes(policy), "here")


def test_an_environment_without_a_time_limit_is_named(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"2 of 2 episodes .*Walks has no time limit"):
        result = poise.train(Walks, run_dir=tmp_path / "run", **WALK)
    evaluation = result.summary["evaluation"]
    assert evaluation["cut"] == evaluation["episodes"] == 3
    assert result.summary["evaluation_step_limit"] == 1000
    poise.replay(result.folder, environment=Walks)
    result = poise.train(Walks, run_dir=tmp_path / "other", evaluation_step_limit=5, **WALK)
    assert result.summary["evaluation"]["steps"] == 15


class Walks(Corridor):
    """Never ends, and has no time limit."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.ones(1, np.float32), 0.0, False, False, {}


WALK: dict[str, Any] = {
    "workers": 1,
    "launcher": "serial",
    "max_steps": 400,
    "selection_episodes": 2,
    "verification_episodes": 3,
}
