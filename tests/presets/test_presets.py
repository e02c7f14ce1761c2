"""Presets: their files, which one a run uses, and what has priority over them."""

import contextlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import poise
from poise.cli import main
from poise.config import TrainConfig
from poise.errors import ConfigError, FileFormatError, InputError
from poise.presets.choice import built_in, choose_preset
from poise.presets.preset import MAX_PRESET_BYTES, preset_from_bytes, read_preset, to_toml

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")

SMALL: dict[str, Any] = {
    **{"max_steps": 64, "workers": 1, "envs_per_worker": 4, "rollout_length": 8},
    **{"hidden_sizes": 8, "minibatches": 2, "epochs": 1},
    **{"selection_episodes": 2, "verification_episodes": 2, "launcher": "serial"},
}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
MINE = """
format_version = 1
environments = ["MountainCar-v0"]

[settings]
learning_rate = 0.5
"""


def written(folder: Path, content: str) -> str:
    path = folder / "mine.toml"
    path.write_text(content)
    return str(path)


def settings_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content["settings"]


class TestFiles:
    @pytest.mark.parametrize("name", sorted(built_in()))
    def test_each_is_complete(self, name: str) -> None:
        preset = built_in()[name]
        assert preset.environments
        assert preset.reached
        assert TrainConfig(**preset.settings)

    def test_an_environment_has_one_automatic_preset(self) -> None:
        named = [one for preset in built_in().values() for one in preset.environments]
        for name in named:
            exact = [one for one in built_in().values() if name in one.environments]
            assert sum(one.automatic for one in exact) == 1
            assert len({one.algorithm for one in exact}) == len(exact)

    def test_their_environments_exist(self) -> None:
        for preset in built_in().values():
            for name in preset.environments:
                if "*" not in name:
                    # Some are of older versions of Gymnasium.
                    with contextlib.suppress(gymnasium.error.DeprecatedEnv):
                        gymnasium.spec(name)

    @pytest.mark.parametrize(
        ("content", "word"),
        [
            ("format_version = 2", "format_version 2"),
            ("", "format_version None"),
            ("format_version = true", "format_version True"),
            ("format_version = 1\nlr = 2", "unknown key 'lr'"),
            ("format_version = 1\n[settings]\nlearning_rat = 2", "perhaps you meant learning_rate"),
            ("format_version = 1\n[settings]\ndiscount = 2", "discount"),
            ("format_version = 1\n[settings]\nseed = 2", "seed is about a single run"),
            ("format_version = 1\n[settings]\nmax_seconds = 2", "must have max_steps"),
            ('format_version = 1\n[settings]\nalgorithm = "ppo"\nminibatches = 7', "divide"),
            ("format_version = 1\nsettings = 3", "settings must be a table"),
            ("format_version = 1\nenvironments = 3", "environments must be a list"),
            ("format_version = 1\nactions = 3", "actions is 3"),
            ("format_version = 1\nautomatic = 3", "automatic must be true or false"),
            ("format_version = ", "not a TOML file"),
            ("\0", "not a TOML file"),
            ("a = " + "[" * 100_000, "not a TOML file"),
        ],
    )
    def test_a_bad_file_is_refused(self, content: str, word: str) -> None:
        with pytest.raises(InputError, match=word) as caught:
            preset_from_bytes(content.encode(), "mine", "mine.toml")
        assert "mine.toml" in str(caught.value)

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            read_preset(tmp_path / "none.toml")
        os.mkfifo(tmp_path / "pipe.toml")
        with pytest.raises(ConfigError, match="regular file"):
            read_preset(tmp_path / "pipe.toml")
        with (tmp_path / "huge.toml").open("wb") as file:
            file.truncate(MAX_PRESET_BYTES + 1)
        with pytest.raises(FileFormatError, match="too large"):
            read_preset(tmp_path / "huge.toml")

    def test_settings_are_written_as_they_are_read(self) -> None:
        config = TrainConfig(
            "Pendulum-v1",
            env_kwargs={"g": 5.0, "name": 'ü "quoted" \\ \n'},  # type: ignore[arg-type]
            hidden_sizes=(8, 16),
            max_gradient_norm=float("inf"),
            optimizer_epsilon=1e-20,
            discount=1,
        )
        preset = preset_from_bytes(to_toml(config).encode(), "mine", "mine.toml")
        assert TrainConfig("Pendulum-v1", **preset.settings) == config
        assert preset.is_for("Pendulum-v1")


class TestChoice:
    def test_the_one_for_the_environment(self) -> None:
        chosen = choose_preset("auto", "MountainCar-v0")
        assert chosen is built_in()["mountaincar"]
        assert choose_preset("auto", "some_module:MountainCar-v0") is chosen
        assert choose_preset("auto", "Unknown-v0") is None
        assert choose_preset("none", "MountainCar-v0") is None

    def test_an_algorithm_that_was_chosen_gets_its_own_preset_or_none(self) -> None:
        assert choose_preset("auto", "MountainCar-v0", "ppo") is built_in()["mountaincar"]
        assert choose_preset("auto", "MountainCar-v0", "a2c") is None
        assert choose_preset("mountaincar", "MountainCar-v0", "a2c") is built_in()["mountaincar"]

    @pytest.mark.parametrize("choice", ["mountancar", "nothing_like_it", "", 5, None])
    def test_an_unknown_name(self, choice: Any) -> None:
        with pytest.raises(ConfigError, match="preset"):
            choose_preset(choice, "MountainCar-v0")


class TestCommand:
    def test_it_is_used_and_named_and_flags_win(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        assert main(["train", "MountainCar-v0", *FLAGS, f"--run-dir={run}"]) == 0
        assert "settings of the preset mountaincar" in capfd.readouterr().out
        content = json.loads((run / "config.json").read_text())
        assert content["resolved"]["preset"] == "mountaincar"
        preset = built_in()["mountaincar"].settings
        assert content["settings"]["algorithm"] == preset["algorithm"] == "ppo"
        assert content["settings"]["discount"] == preset["discount"]
        assert content["settings"]["minibatches"] == 2 != preset["minibatches"]
        assert main(["replay", str(run)]) == 0
        assert main(["resume", str(run), "--max-steps=128", "--quiet"]) == 0

    def test_it_is_not_named_if_the_run_is_refused(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "notes.txt").touch()
        assert main(["train", "MountainCar-v0", *FLAGS, f"--run-dir={tmp_path}"]) == 2
        assert capfd.readouterr().out == ""

    def test_none_turns_it_off(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        run = tmp_path / "run"
        flags = ["--preset=none", "--world=copies", *FLAGS, f"--run-dir={run}"]
        assert main(["train", "MountainCar-v0", *flags]) == 0
        assert "preset" not in capfd.readouterr().out
        content = json.loads((run / "config.json").read_text())
        assert content["resolved"]["preset"] is None
        assert content["settings"]["algorithm"] == "a3c"

    def test_its_settings_are_shown_and_can_be_given_back(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["train", "MountainCar-v0", "--epochs=3", "--show-config"]) == 0
        shown = capfd.readouterr().out
        settings = tomllib.loads(shown)["settings"]
        assert settings["epochs"] == 3
        assert settings["algorithm"] == "ppo"
        path = written(tmp_path, shown)
        assert main(["train", "MountainCar-v0", f"--preset={path}", "--show-config"]) == 0
        assert capfd.readouterr().out == shown
        assert not list(tmp_path.glob("runs"))

    def test_a_file_of_ones_own(self, tmp_path: Path) -> None:
        run, path = tmp_path / "run", written(tmp_path, MINE)
        flags = [*FLAGS, "--world=copies", "--quiet", f"--run-dir={run}"]
        assert main(["train", "MountainCar-v0", "--preset", path, *flags]) == 0
        assert settings_of(run)["learning_rate"] == 0.5
        assert settings_of(run)["algorithm"] == "a3c"

    def test_one_for_another_kind_of_actions(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        flags = ["--preset=mountaincar", f"--run-dir={tmp_path / 'run'}"]
        assert main(["train", "Pendulum-v1", *flags]) == 2
        said = capfd.readouterr().err
        assert "mountaincar is for discrete actions" in said
        assert not (tmp_path / "run").exists()

    def test_an_error_about_settings_names_the_preset(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["train", "MountainCar-v0", "--rollout-length=1", "--minibatches=7"]) == 2
        said = " ".join(capfd.readouterr().err.split())
        assert "minibatches is 7" in said
        assert "come from the preset mountaincar" in said


class TestPython:
    def test_it_is_used_unless_all_settings_are_chosen(self, tmp_path: Path) -> None:
        poise.train("MountainCar-v0", run_dir=tmp_path / "auto", **SMALL)
        assert settings_of(tmp_path / "auto")["algorithm"] == "ppo"
        config = TrainConfig("MountainCar-v0", **SMALL)
        poise.train(config, run_dir=tmp_path / "config")
        assert settings_of(tmp_path / "config")["algorithm"] == "a3c"
        poise.train(
            config, run_dir=tmp_path / "named", preset="mountaincar", learning_rate=0.25, **SMALL
        )
        assert settings_of(tmp_path / "named")["algorithm"] == "ppo"
        assert settings_of(tmp_path / "named")["learning_rate"] == 0.25

    def test_errors(self) -> None:
        with pytest.raises(ConfigError, match='preset="none"') as caught:
            poise.train("Pendulum-v1", preset="mountaincar", keep=False, **SMALL)
        assert "continuous" in str(caught.value)
        with pytest.raises(ConfigError, match="divide") as caught:
            poise.train("MountainCar-v0", keep=False, minibatches=7)
        assert "the preset mountaincar" in caught.value.__notes__[0]
