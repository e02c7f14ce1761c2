"""Settings of network, exploration and loss, in whole runs: replayed, resumed, saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.cli import main
from poise.errors import ConfigError

PENDULUM: dict[str, Any] = {
    "environment": "Pendulum-v1",
    "preset": "none",
    "workers": 2,
    "envs_per_worker": 2,
    "rollout_length": 8,
    "hidden_sizes": 6,
    "max_steps": 600,
    "selection_episodes": 2,
    "verification_episodes": 2,
    "evaluation_interval": 300,
    "gaussian_scale": "gsde",
    "squash_actions": True,
    "trunk": "shared",
    "value_loss": "huber",
    "entropy_coefficient": 0.01,
    "entropy_schedule": "linear",
}
PASSES: dict[str, Any] = {
    "algorithm": "ppo",
    "clip_range_schedule": "linear",
    "annealing_steps": 1500,
    "value_clip_range": 0.2,
    "minibatches": 2,
}

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


@pytest.mark.parametrize(
    ("world", "chosen"),
    [
        ("compiled", {}),
        ("copies", PASSES),
        pytest.param("copies", {"launcher": "processes"}, marks=pytest.mark.slow),
        pytest.param("compiled", PASSES, marks=pytest.mark.slow),
    ],
)
def test_a_run_is_resumed_and_replayed(tmp_path: Path, world: str, chosen: dict[str, Any]) -> None:
    given = {**PENDULUM, "world": world, "launcher": "threads", **chosen}
    run = poise.train(**given, run_dir=tmp_path / "run")
    policy = poise.load(run.folder)
    assert abs(policy.act(np.zeros(3, np.float32), greedy=False)[0]) <= 2.0
    if "clip_range_schedule" in chosen:
        with pytest.raises(ConfigError, match="clip range is 0 after 1500 steps"):
            poise.resume(run.folder, max_steps=1501, quiet=True)
    resumed = poise.resume(run.folder, max_steps=1000, quiet=True)
    assert resumed.summary["steps"] >= 1000
    report = poise.replay(run.folder)
    assert "final.safetensors" in report.compared


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["CartPole-v1", "--value-clip-range=0"], "--value-clip-range is 0"),
        (["CartPole-v1", "--trunk=none"], "--trunk"),
        (
            ["Pendulum-v1", "--gaussian-scale=gsde", "--hidden-sizes=8", "--vf-clip=1"],
            "--value-clip-range",
        ),
        (["CartPole-v1", "--entropy-schedule=linear", "--max-seconds=1"], "or max_steps"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *flags, "--preset=none", "--show-config"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
