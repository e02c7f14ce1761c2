"""Settings that are decided once, by network and environment, and saved."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import poise
from poise.agent.networks import MlpNetwork
from poise.config import TrainConfig
from poise.envs.env_factory import find_env_factory
from poise.errors import FileFormatError
from poise.storage.config_digest import sealed
from poise.training.assembly import build_components
from poise.training.decisions import decisions

from ..environments import Toy
from ..small import copy, rows

PICTURE = spaces.Box(0, 255, (12, 12, 3), np.uint8)
VECTOR = spaces.Box(-1.0, 1.0, (2,))
make_toy = functools.partial(Toy, VECTOR)


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
def test_the_learning_rate_depends_on_the_network_unless_it_is_set(
    space: spaces.Space[Any], settings: dict[str, Any], rate: float
) -> None:
    config = TrainConfig(environment="toy", workers=1, **settings)
    env_factory = find_env_factory(config.environment_choice, functools.partial(Toy, space))
    components = build_components(config, env_factory)
    assert decisions(components)["learning_rate"] == rate
    assert components.server_settings(config).learning_rate == rate
    assert config.learning_rate == settings.get("learning_rate")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shared_programs: None) -> Path:
    """A run of a trivial environment, without a set learning rate."""
    folder = tmp_path_factory.mktemp("rate") / "run"
    poise.train(
        make_toy,
        run_dir=folder,
        workers=1,
        launcher="serial",
        max_steps=200,
        selection_episodes=1,
        verification_episodes=1,
        record_every=1,
    )
    return folder


def test_a_run_is_resumed_and_replayed_with_the_decided_rate(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["learning_rate"] is None
    assert config["resolved"]["learning_rate"] == 3e-3
    folder = copy(run, tmp_path)
    monkeypatch.setattr(MlpNetwork, "usual_learning_rate", 0.5)
    poise.resume(folder, environment=make_toy, max_steps=400)
    assert {row["learning_rate"] for row in rows(folder, "update")} == {3e-3}
    assert poise.replay(folder, environment=make_toy).steps >= 400


@pytest.mark.parametrize("rate", [0.0, -1.0, "0.003", True, 1e300])
def test_an_impossible_rate_is_refused(run: Path, tmp_path: Path, rate: Any) -> None:
    folder = copy(run, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["resolved"]["learning_rate"] = rate
    (folder / "config.json").write_text(json.dumps(sealed(config)))
    with pytest.raises(FileFormatError, match="damaged: its learning_rate"):
        poise.replay(folder, environment=make_toy)


@pytest.mark.parametrize(
    ("environment", "settings", "expected"),
    [
        ("Pendulum-v1", {}, "on"),
        ("Pendulum-v1", {"reward_clip": 1.0}, "off"),
        ("Pendulum-v1", {"normalize_rewards": "off"}, "off"),
        ("CartPole-v1", {}, "off"),
        ("CartPole-v1", {"normalize_rewards": "on"}, "on"),
    ],
)
def test_rewards_are_normalised_by_default_if_actions_are_continuous(
    environment: str, settings: dict[str, Any], expected: str
) -> None:
    components = build_components(TrainConfig(environment, **settings))
    assert components.reward_normalization == expected
