"""Settings that were changed by hand are refused by the commands that they would break."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.errors import ConfigError, FileFormatError
from poise.storage.config_digest import require_unchanged, sealed
from poise.storage.run_folder import config_to_json, load_config

from ..small import copy, train

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


def change(folder: Path, alter: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    alter(content)
    path.write_text(json.dumps(content))


ALTERATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a setting": lambda content: content["settings"].update(learning_rate=0.1),
    "a budget": lambda content: content["settings"].update(max_steps=4000),
    "a setting less": lambda content: content["settings"].pop("discount"),
    "what was decided": lambda content: content["resolved"].update(slow_steps=True),
    "a resumption": lambda content: content["resumptions"].append({"record": 3, "max_steps": 5}),
    "the digest": lambda content: content.update(sha256="0" * 64),
    "no text as digest": lambda content: content.update(sha256=None),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
@pytest.mark.parametrize(
    "ask", [poise.replay, poise.resume, lambda run: poise.resume(run, max_steps=3000)]
)
def test_a_change_is_refused_and_changes_nothing(
    serial_run: Path, tmp_path: Path, alteration: str, ask: Callable[[Path], Any]
) -> None:
    folder = copy(serial_run, tmp_path)
    change(folder, ALTERATIONS[alteration])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(FileFormatError, match=r"config\.json was changed after the run") as caught:
        ask(folder)
    assert caught.value.exit_code == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    # The policy is a separate file, so it can still be loaded.
    assert poise.load(folder).environment.name == "CartPole-v1"
    assert load_config(folder)


def test_a_file_with_another_layout_counts_as_unchanged(serial_run: Path, tmp_path: Path) -> None:
    folder = copy(serial_run, tmp_path)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    require_unchanged(folder)


def test_an_older_run_without_a_digest_is_resumed(serial_run: Path, tmp_path: Path) -> None:
    folder = copy(serial_run, tmp_path)
    change(folder, lambda content: content.pop("sha256"))
    poise.replay(folder)
    poise.resume(folder, max_steps=2200)
    assert "sha256" in json.loads((folder / "config.json").read_text())
    change(folder, ALTERATIONS["a setting"])
    with pytest.raises(FileFormatError, match="was changed"):
        poise.replay(folder)


def test_resume_seals_the_file_again(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", max_steps=300).folder
    for steps in (400, 500):
        poise.resume(folder, max_steps=steps)
        require_unchanged(folder)
    poise.replay(folder)


def test_the_digest_depends_on_every_value() -> None:
    config, resolved = poise.TrainConfig(), {"world": "compiled"}
    first = config_to_json(config, resolved)
    assert first == sealed(first) == sealed({**first, "sha256": "other"})
    digests = {
        config_to_json(poise.TrainConfig(seed=1), resolved)["sha256"],
        config_to_json(config, {"world": "copies"})["sha256"],
        config_to_json(config, resolved, [{"record": 1, "max_steps": 5}])["sha256"],
        first["sha256"],
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("learning_rate", "learning_rate cannot be given to resume, because .* are fixed: start"),
        ("lr", "learning_rate cannot be given to resume"),
        ("workers", "workers cannot be given to resume"),
        ("max_step", "no argument of resume 'max_step': perhaps you meant max_steps"),
        ("callback", "perhaps you meant callbacks"),
        ("xyzzy", "no argument of resume 'xyzzy'$"),
    ],
)
def test_a_setting_for_resume_is_refused(serial_run: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        poise.resume(serial_run, **{name: 1})
