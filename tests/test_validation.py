"""Settings out of bounds give one sentence, the same from Python, from flags and from a file."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from poise import validation
from poise.argument_names import as_flags
from poise.cli import main
from poise.config import TrainConfig
from poise.errors import ConfigError, FileFormatError
from poise.storage.run_folder import config_to_json, load_config, load_resumptions

ABSURD: list[tuple[str, Any]] = [
    ("workers", 10**7),
    ("envs_per_worker", 10**9),
    ("rollout_length", 10**10),
    ("hidden_sizes", [10**9]),
    ("hidden_sizes", [2**70]),
    ("hidden_sizes", [1] * 100_000),
    ("hidden_sizes", [65_536, 65_536]),
    ("learning_rate", 10**400),
    ("learning_rate", 1e300),
    ("target_return", 10**400),
    ("target_return", -1e300),
    ("failure_reward", 1e39),
    ("reward_scale", 1e39),
    ("worker_timeout", 1e300),
    ("checkpoint_every", "9" * 5000 + "steps"),
    ("checkpoint_every", "9" * 5000 + "s"),
    ("checkpoint_every", "\N{ARABIC-INDIC DIGIT THREE}s"),
    ("selection_episodes", 10**9),
    ("verification_episodes", 10**400),
    ("keep_checkpoints", 10**30),
    ("max_steps", 10**400),
    ("seed", 2**63),
    ("environment", "\ud800"),
    ("environment", "A" * 10**6),
    ("wrappers", ["a:b"] * 100_000),
    ("wrappers", ["a:" + "b" * 10**6]),
    ("env_kwargs", ["a=\udfff"]),
    ("env_kwargs", ["a=" + "1" * 10**6]),
]
NAMES = [f"{name}-{str(value)[:12]!a}" for name, value in ABSURD]


@pytest.mark.parametrize(("name", "value"), ABSURD, ids=NAMES)
def test_an_absurd_value_is_one_short_sentence(name: str, value: Any) -> None:
    begun = time.process_time()
    with pytest.raises(ConfigError, match="must be") as caught:
        TrainConfig(**{name: value})
    said = str(caught.value)
    assert said.startswith(f"{name} is ")
    assert len(said) < 400
    said.encode()
    with as_flags():
        assert str(caught.value).startswith(f"--{name.replace('_', '-')} is ")
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize(("name", "value"), ABSURD, ids=NAMES)
def test_an_absurd_value_from_a_file(name: str, value: Any, tmp_path: Path) -> None:
    content = config_to_json(TrainConfig(), {})
    content["settings"][name] = value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=r"config.json is damaged") as caught:
        load_config(tmp_path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "flags",
    [
        ["--workers=10000000"],
        ["--envs-per-worker=1000000000"],
        ["--hidden-sizes", *["1"] * 1000],
        ["--checkpoint-every", "9" * 5000 + "steps"],
        ["--max-steps", "9" * 5000],
        ["--learning-rate=1e300"],
        ["\udcff"],
    ],
    ids=lambda flags: flags[0][:20].encode("ascii", "replace").decode(),
)
def test_an_absurd_value_from_a_flag(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["train", *flags, "--run-dir", str(tmp_path / "run")])
    except SystemExit as left:
        # Text that is not a number is rejected when flags are parsed.
        code = left.code
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": validation.MAX_WORKERS},
        {"envs_per_worker": validation.MAX_ENVS_PER_WORKER, "workers": 1},
        {"rollout_length": validation.MAX_ROLLOUT_LENGTH, "envs_per_worker": 1},
        {"hidden_sizes": (validation.MAX_HIDDEN_UNITS,)},
        {"hidden_sizes": (4096, 4096, 4096)},
        {"hidden_sizes": (16,) * validation.MAX_HIDDEN_LAYERS},
        {"hidden_sizes": ()},
        {"selection_episodes": validation.MAX_EPISODES},
        {"max_steps": 10**15, "seed": 2**63 - 1},
        {"max_seconds": 1e12},
        {"max_gradient_norm": float("inf")},
        {"env_kwargs": ("desc=" + "S" * 10_000,)},
        {"environment": "module:" + "a" * 1000},
        {"checkpoint_every": "0.5s"},
        {"checkpoint_every": "100000000steps"},
    ],
)
def test_large_but_useful_values_are_allowed(settings: dict[str, Any]) -> None:
    config = TrainConfig(**settings)
    for name, value in settings.items():
        assert getattr(config, name) == value


@pytest.mark.parametrize(
    ("settings", "name", "most"),
    [
        ({"envs_per_worker": 65_536, "rollout_length": 65}, "rollout_length", "at most 64 with"),
        ({"envs_per_worker": 1024, "workers": 1025}, "workers", "at most 1,024 with"),
    ],
)
def test_allowed_values_may_be_too_large_together(
    settings: dict[str, Any], name: str, most: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*{most}"):
        TrainConfig(**settings)


def test_the_bounds_hold_the_defaults_and_copies_of_them() -> None:
    config = TrainConfig()
    assert dataclasses.replace(config) == config
    assert (config.checkpoint_seconds, config.checkpoint_steps) == (30.0, None)
    by_steps = dataclasses.replace(config, checkpoint_every="100000steps")
    assert (by_steps.checkpoint_seconds, by_steps.checkpoint_steps) == (None, 100_000)


@pytest.mark.parametrize(
    "resumptions",
    [
        5,
        [5],
        [{"max_steps": 5}],
        [{"record": 5, "foo": 1}],
        [{"record": -7, "max_steps": 5}],
        [{"record": True, "max_steps": 5}],
        [{"record": 2**70, "max_steps": 5}],
        [{"record": 5, "max_steps": "x"}],
        [{"record": 5, "max_steps": 10**400}],
        [{"record": 5, "max_seconds": -1.0}],
        [{"record": 5, "max_steps": 5}, {"record": 5, "max_steps": 6}],
        [{"record": 5, "x" * 10**6: 5}],
    ],
    ids=lambda one: str(one)[:40],
)
def test_impossible_resumptions(resumptions: Any, tmp_path: Path) -> None:
    content = {**config_to_json(TrainConfig(), {}), "resumptions": resumptions}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=r"config.json is damaged") as caught:
        load_resumptions(tmp_path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "resolved",
    [
        {"target_return": 10**400},
        {"target_return": 1e308},
        {"target_return": float("nan")},
        {"target_return": "475"},
        {"target_return": True},
        {"replayable": [1]},
    ],
    ids=lambda one: str(one)[:40],
)
def test_impossible_decisions(resolved: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_to_json(TrainConfig(), resolved)))
    with pytest.raises(FileFormatError, match=r"config.json is damaged"):
        load_config(tmp_path)


def test_an_unknown_setting_is_named_briefly(tmp_path: Path) -> None:
    content = config_to_json(TrainConfig(), {})
    content["settings"]["x" * 10**6] = 1
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=r"there is no setting 'xxx") as caught:
        load_config(tmp_path)
    assert len(str(caught.value)) < 600
