"""Writes the run of a released version for `test_released_formats.py`; once, at its release.

python tests/trust/write_released_run.py tests/data/0.1.0
"""

import shutil
import sys
import tempfile
from pathlib import Path

import poise

FILES = ("config.json", "journal", "metrics.jsonl", "summary.json")


def main(place: Path) -> None:
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        poise.train(
            "CartPole-v1",
            run_dir=folder,
            seed=0,
            workers=1,
            envs_per_worker=2,
            rollout_length=5,
            hidden_sizes=(4,),
            max_steps=300,
            launcher="serial",
            evaluation_interval=100,
            selection_episodes=2,
            verification_episodes=2,
            normalize_observations="on",
            checkpoint_every="100steps",
            keep_checkpoints=1,
        )
        for name in (*FILES, "best.safetensors", "final.safetensors"):
            shutil.copy(folder / name, place / name)
        shutil.copytree(folder / "checkpoints", place / "checkpoints")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
