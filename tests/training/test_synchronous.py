"""A2C and PPO, whose workers wait for each other: the result is the same under any launcher."""

from pathlib import Path
from typing import Any

import pytest

import poise
from poise.errors import ConfigError

from ..small import rows, train

FEW: dict[str, Any] = {"workers": 3, "max_steps": 1500}

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


@pytest.mark.parametrize(
    ("world", "algorithm"),
    [
        ("compiled", "a2c"),
        pytest.param("compiled", "ppo", marks=pytest.mark.slow),
        pytest.param("copies", "ppo", marks=pytest.mark.slow),
        pytest.param("copies", "a2c", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("launcher", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_it_is_the_same_under_every_launcher(
    launcher: str, world: str, algorithm: str, tmp_path: Path
) -> None:
    chosen = {**FEW, "world": world, "algorithm": algorithm}
    one = train(tmp_path / "serial", **chosen)
    other = train(tmp_path / "other", **chosen, launcher=launcher)
    assert one.policy.parameters.tobytes() == other.policy.parameters.tobytes()
    for name in ("steps", "updates", "episodes", "evaluation"):
        assert one.summary[name] == other.summary[name]
    first, second = poise.replay(tmp_path / "serial"), poise.replay(tmp_path / "other")
    assert first.final_hash == second.final_hash
    assert "final.safetensors" in first.compared


def test_an_update_uses_all_workers(tmp_path: Path) -> None:
    result = train(tmp_path / "run", **FEW, algorithm="a2c", record_every=1)
    updates = rows(tmp_path / "run", "update")
    assert [row["worker"] for row in updates] == [0, 1, 2] * result.summary["updates"]
    assert {row["staleness"] for row in updates} == {0}
    # 3 workers with 8 copies and 10 steps each; fewer because some steps only reset.
    assert 0.8 < result.summary["steps"] / (240 * result.summary["updates"]) <= 1


def test_a_single_worker_learns_as_in_a3c(tmp_path: Path) -> None:
    alone = {**FEW, "workers": 1}
    a2c = train(tmp_path / "a2c", **alone)
    a3c = train(tmp_path / "a3c", **{**alone, "algorithm": "a3c"})
    assert a2c.policy.parameters.tobytes() == a3c.policy.parameters.tobytes()


@pytest.mark.slow
def test_ppo_logs_the_metrics_of_its_learner_and_resumes(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **FEW, algorithm="ppo", record_every=1)
    row = rows(tmp_path / "whole", "update")[0]
    assert row["approximate_kl"] > 0
    assert 0 <= row["clip_fraction"] <= 1
    train(tmp_path / "parts", **{**FEW, "max_steps": 700}, algorithm="ppo")
    resumed = poise.resume(tmp_path / "parts", max_steps=1500, quiet=True)
    assert resumed.summary["steps"] == whole.summary["steps"]
    poise.replay(tmp_path / "parts")


def test_minibatches_must_divide_the_batch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="minibatches is 7, but must divide the 240 steps"):
        train(tmp_path / "run", **FEW, algorithm="ppo", minibatches=7)
