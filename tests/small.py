"""Small runs on CartPole, and functions that read their files."""

import json
import shutil
from pathlib import Path
from typing import Any

import poise
from poise.training.train import TrainResult

SMALL: dict[str, Any] = {
    "environment": "CartPole-v1",
    # With this seed, the policies hold the pole for about 30 steps only.
    "seed": 6,
    "workers": 2,
    "launcher": "serial",
    "max_steps": 2000,
    "evaluation_interval": 700,
    "selection_episodes": 3,
    "verification_episodes": 4,
    "record_every": 4,
}
ENDLESS: dict[str, Any] = {"max_steps": 10**9, "target_return": 1e9}
"""Settings of a run that only the test ends, however fast it learns."""
TIMES = (
    "seconds",
    "wall_seconds",
    "training_seconds",
    "steps_per_second",
    "training_solved_at_seconds",
    "findings",
)
"""Keys of ``summary.json`` that contain clock times, or values of one process."""


def train(folder: Path, **settings: Any) -> TrainResult:
    """Train a small run in a folder."""
    return poise.train(**{**SMALL, **settings}, preset="none", run_dir=folder)


def rows(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.jsonl``, optionally of one kind only."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if kind is None or row["kind"] == kind]


def summary(folder: Path) -> dict[str, Any]:
    """Return the content of ``summary.json``."""
    return json.loads((folder / "summary.json").read_text())


def copy(folder: Path, place: Path) -> Path:
    """A copy of a run, which a test may change."""
    shutil.copytree(folder, place / "altered")
    return place / "altered"
