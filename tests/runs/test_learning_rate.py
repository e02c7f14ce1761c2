"""The learning rate that is taken where none is set: by the network, once, and written down."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from tests.environments import Toy

import poise
from poise.agent import agent as agents
from poise.errors import FileFormatError
from poise.runs.training import TrainResult

from .small import rows

PICTURE = spaces.Box(0, 255, (12, 12, 3), np.uint8)
VECTOR = spaces.Box(-1.0, 1.0, (2,))


def train(folder: Path, space: spaces.Space[Any], **settings: Any) -> TrainResult:
    return poise.train(
        functools.partial(Toy, space),
        run_dir=folder,
        workers=1,
        launcher="serial",
        max_steps=200,
        selection_episodes=1,
        verification_episodes=1,
        record_every=1,
        **settings,
    )


@pytest.mark.parametrize(
    ("space", "settings", "rate"),
    [
        (PICTURE, {}, 1e-3),
        (PICTURE, {"image_axes": "none"}, 3e-3),
        (spaces.Dict({"eye": PICTURE, "ear": VECTOR}), {}, 1e-3),
        (VECTOR, {}, 3e-3),
        (PICTURE, {"learning_rate": 3e-3}, 3e-3),
        (VECTOR, {"learning_rate": 0.02}, 0.02),
    ],
)
def test_it_depends_on_the_network_unless_it_is_set(
    tmp_path: Path, space: spaces.Space[Any], settings: dict[str, Any], rate: float
) -> None:
    result = train(tmp_path / "run", space, **settings)
    config = json.loads((result.folder / "config.json").read_text())
    assert config["resolved"]["learning_rate"] == rate
    assert config["settings"]["learning_rate"] == settings.get("learning_rate")
    assert {row["learning_rate"] for row in rows(result.folder, "update")} == {rate}


def test_a_run_goes_on_and_is_repeated_with_what_was_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train(tmp_path / "run", VECTOR)
    monkeypatch.setattr(agents, "LEARNING_RATE", 0.5)
    environment = functools.partial(Toy, VECTOR)
    poise.resume(result.folder, environment=environment, max_steps=400)
    assert {row["learning_rate"] for row in rows(result.folder, "update")} == {3e-3}
    report = poise.replay(result.folder, environment=environment)
    assert report.steps >= 400


@pytest.mark.parametrize("rate", [0.0, -1.0, "0.003", True, 1e300])
def test_an_impossible_one_is_refused(tmp_path: Path, rate: Any) -> None:
    result = train(tmp_path / "run", VECTOR)
    path = result.folder / "config.json"
    config = json.loads(path.read_text())
    config["resolved"]["learning_rate"] = rate
    path.write_text(json.dumps(config))
    with pytest.raises(FileFormatError, match="damaged: its learning_rate"):
        poise.replay(result.folder, environment=functools.partial(Toy, VECTOR))
