"""Files written by released versions stay readable.

``tests/data/<version>`` holds a tiny run of each version: CartPole-v1, one serial worker, seed 0,
300 steps, four hidden units, normalised observations. `write_released_run.py` wrote it.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import poise
from poise.learning.journal import RecordKind, StopReason, read_journal
from poise.reports.curve import read_episodes
from poise.storage.checkpoints.store import Template, newest_checkpoint
from poise.storage.run_folder import load_config, load_resumptions, load_summary
from poise.training.assembly import build_components

from .runs import files_of

DATA = Path(__file__).parent.parent / "data"
VERSIONS = sorted(path.name for path in DATA.iterdir())

pytestmark = pytest.mark.parametrize("version", VERSIONS)


@pytest.mark.parametrize("which", ["best", "final"])
def test_policies(version: str, which: str) -> None:
    policy = poise.load(DATA / version, which)
    assert policy.environment.name == "CartPole-v1"
    assert policy.agent.spec.hidden_sizes == (4,)
    assert policy.agent.spec.activation == "relu", "as before it was a setting"
    assert np.isfinite(policy.parameters).all()
    assert len(policy.statistics) == 2
    assert int(policy.act(np.zeros(4, np.float32))) in (0, 1)


def test_settings_and_summary(version: str) -> None:
    config, resolved = load_config(DATA / version)
    assert (config.seed, config.max_steps, config.launcher) == (0, 300, "serial")
    assert config.activation == "relu"
    assert resolved["world"] == "compiled"
    assert load_resumptions(DATA / version) == []
    summary = load_summary(DATA / version)
    assert summary["stopped"] == "max_steps"
    assert summary["steps"] >= 300


def test_journal_and_metrics(version: str) -> None:
    journal = read_journal(DATA / version / "journal")
    assert journal.damage is None
    assert journal.header["versions"]["poise"] == version
    kinds = [record.kind for record in journal.records]
    summary = load_summary(DATA / version)
    assert kinds[0] == RecordKind.JOIN
    assert kinds.count(RecordKind.UPDATE) == summary["updates"]
    assert journal.records[-1].detail == StopReason.MAX_STEPS
    assert len(read_episodes(DATA / version / "metrics.jsonl").steps) == summary["episodes"]


def test_checkpoint(version: str) -> None:
    config, _ = load_config(DATA / version)
    components = build_components(config)
    template = Template(
        snapshot=components.first_snapshot(),
        optimizer_state=components.initial_optimizer_state(),
        worker_state=components.worker(0).initial_state(),
        moments=components.initial_moments(),
        workers=1,
    )
    found = newest_checkpoint(DATA / version, template)
    assert found is not None
    final = poise.load(DATA / version, "final")
    np.testing.assert_array_equal(found.run_state.parameters, final.parameters)


@pytest.mark.filterwarnings("ignore:this run was recorded elsewhere:RuntimeWarning")
@pytest.mark.usefixtures("shared_programs")
def test_the_run_can_be_resumed(version: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(DATA / version, folder)
    before = files_of(folder)
    assert poise.resume(folder).summary == load_summary(folder)
    result = poise.resume(folder, max_steps=400)
    assert result.summary["steps"] >= 400
    episodes = [row for row in files_of(folder).metrics if row["kind"] == "episode"]
    known = [row for row in before.metrics if row["kind"] == "episode"]
    assert episodes[: len(known)] == known
