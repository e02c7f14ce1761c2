"""A2C: a run is the same wherever its workers are, replays, and learns."""

from pathlib import Path
from typing import Any

import pytest

import poise

from ..small import rows, train

FEW: dict[str, Any] = {"algorithm": "a2c", "workers": 3, "max_steps": 1500}

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.mark.parametrize("world", ["compiled", "copies"])
@pytest.mark.parametrize("launcher", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_it_is_the_same_under_every_launcher(launcher: str, world: str, tmp_path: Path) -> None:
    one = train(tmp_path / "serial", **FEW, world=world)
    other = train(tmp_path / "other", **FEW, world=world, launcher=launcher)
    assert one.policy.parameters.tobytes() == other.policy.parameters.tobytes()
    for name in ("steps", "updates", "episodes", "evaluation"):
        assert one.summary[name] == other.summary[name]
    first, second = poise.replay(tmp_path / "serial"), poise.replay(tmp_path / "other")
    assert first.final_hash == second.final_hash
    assert "final.safetensors" in first.compared


def test_an_update_is_of_all_workers(tmp_path: Path) -> None:
    result = train(tmp_path / "run", **FEW, record_every=1)
    updates = rows(tmp_path / "run", "update")
    assert [row["worker"] for row in updates] == [0, 1, 2] * result.summary["updates"]
    assert {row["staleness"] for row in updates} == {0}
    # Of 8 copies and 10 steps each, fewer where they reset.
    assert 0.8 < result.summary["steps"] / (240 * result.summary["updates"]) <= 1


def test_a_worker_alone_learns_as_a3c_does(tmp_path: Path) -> None:
    alone = {**FEW, "workers": 1}
    a2c = train(tmp_path / "a2c", **alone)
    a3c = train(tmp_path / "a3c", **{**alone, "algorithm": "a3c"})
    assert a2c.policy.parameters.tobytes() == a3c.policy.parameters.tobytes()
