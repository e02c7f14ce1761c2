"""Evaluations of real runs, played by the worker processes."""

import json
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.envs.seeding import Purpose
from poise.errors import EnvironmentFailureError
from poise.evaluation.episodes import EpisodePlayer
from poise.evaluation.worker_episodes import copies_of
from poise.learning.journal import RecordKind, read_journal
from poise.storage.run_folder import load_config
from poise.training.assembly import build_components

from ..small import rows

NAME = "tests.environments:"
pytestmark = pytest.mark.usefixtures("shared_programs")
SMALL: dict[str, Any] = {
    "launcher": "processes",
    "world": "copies",
    "workers": 2,
    "envs_per_worker": 1,
    "rollout_length": 5,
    "hidden_sizes": (4,),
    "max_steps": 60,
    "evaluation_interval": 30,
    "selection_episodes": 5,
    "verification_episodes": 11,
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes find ``tests.environments``."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


@pytest.mark.slow
def test_the_score_is_that_of_one_process_and_the_run_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        # Only in the parent: worker processes import the module again.
        patch.setattr(EpisodePlayer, "provide", lambda *_: pytest.fail("the parent plays"))
        result = poise.train(f"{NAME}Toy", run_dir=folder, **SMALL)
    found = result.summary["evaluation"]
    assert found["episodes"] == 11
    assert result.summary["random_baseline"] == poise.random_baseline(f"{NAME}Toy").mean
    evaluator = build_components(load_config(folder)[0]).evaluator()
    alone = evaluator.player.play(result.policy, evaluator.seeds(Purpose.VERIFICATION, 1, 11))
    evaluator.close()
    assert {**alone._asdict()} == found
    poise.replay(folder, trust=True)
    records = read_journal(folder / "journal").records
    assert sum(one.kind == RecordKind.EVALUATION for one in records) == len(
        rows(folder, "evaluation")
    )


@pytest.mark.slow
def test_a_failure_in_an_evaluation_of_a_worker_ends_the_run_and_saves_it(tmp_path: Path):
    """Each copy breaks in its 90th step, which no copy takes in training or in the check."""
    few = {**SMALL, "max_steps": 40, "verification_episodes": 60, "evaluation_copies": 2}
    given = ("fault='raises'", "at=90")
    with pytest.raises(EnvironmentFailureError) as caught:
        poise.train(f"{NAME}Faulty", run_dir=tmp_path / "run", env_kwargs=given, **few)
    text = str(caught.value)
    assert text.startswith("worker ")
    assert "step raised RuntimeError: the pole broke" in text
    assert "in evaluation, seed" in text
    assert 'raise RuntimeError("the pole broke")' in caught.value.worker_traceback
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["failure"] == "EnvironmentFailureError"
    assert (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("workers", "copies", "shares"),
    [(2, 8, [4, 4]), (3, 8, [3, 3, 2]), (4, 2, [1, 1, 0, 0]), (2, 1, [0, 0]), (1, 8, [8])],
)
def test_the_workers_share_the_copies_of_an_evaluation(
    workers: int, copies: int, shares: list[int]
):
    assert [copies_of(index, workers, copies) for index in range(workers)] == shares
