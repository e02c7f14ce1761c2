"""TensorBoard's event files: the names in them, and their continuation in a resumed run."""

from pathlib import Path
from typing import Any

import pytest

from poise.config import TrainConfig
from poise.training.resume import resume
from poise.training.train import train_config

from ..small import SMALL

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


class Written:
    """A fake of tensorboardX's writer."""

    made: list["Written"]

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: list[tuple[str, float, int]] = []
        Path(folder).mkdir(exist_ok=True)
        Written.made.append(self)

    def add_scalar(self, name: str, value: float, steps: int) -> None:
        self.scalars.append((name, value, steps))

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    Written.made = []
    monkeypatch.setattr("tensorboardX.SummaryWriter", Written)
    return Written.made


def test_a_run_and_its_resumption_write_the_usual_names(
    writers: list[Written], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {**SMALL, "record_every": 1}
    config = TrainConfig(**settings)
    run = train_config(config, run_dir=tmp_path / "run", tensorboard=True)
    names = {name for name, _, _ in writers[0].scalars}
    assert names >= {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "time/fps",
        "train/value_loss",
        "train/entropy",
        "eval/mean_reward",
    }
    steps = run.summary["steps"]
    resume(run.folder, max_steps=steps + 200)
    assert len(writers) == 2
    assert writers[1].purge_step == steps
    assert min(at for _, _, at in writers[1].scalars) >= steps


def test_without_event_files_a_resumption_writes_none(
    writers: list[Written], tmp_path: Path
) -> None:
    config = TrainConfig(**SMALL)
    run = train_config(config, run_dir=tmp_path / "run")
    resume(run.folder, max_steps=run.summary["steps"] + 200)
    assert not writers
    resume(run.folder, max_steps=run.summary["steps"] + 400, tensorboard=True)
    assert len(writers) == 1
