"""A run's folder: the names of its files, and functions that read them."""

import dataclasses
import functools
import os
import typing
from pathlib import Path
from typing import Any, Literal

from poise.agent.activations import ACTIVATIONS
from poise.agent.policy import Policy
from poise.agent.policy_file import MAX_POLICY_BYTES, policy_from_bytes
from poise.config import EnvironmentChoice, TrainConfig, WorldKind
from poise.envs.env_factory import find_env_factory
from poise.envs.modules import is_file_name, split_path
from poise.errors import ConfigError, FileFormatError, RunFolderError
from poise.safe_open import read_bytes
from poise.settings import BEFORE_SETTINGS, BUDGETS, known_arguments
from poise.storage.config_digest import sealed
from poise.storage.files import json_number, read_json
from poise.storage.summary_file import read_summary
from poise.storage.trust import network_from_file
from poise.validation import MAX_COUNT, MAX_FACTOR, shown

__all__ = [
    "CONFIG_FORMAT",
    "RUN_FILES",
    "Which",
    "config_to_json",
    "default_run_folder",
    "load",
    "load_config",
    "load_resumptions",
    "load_summary",
    "policy_of",
    "remove_run",
    "resolved_world",
    "run_path",
    "target_return",
    "with_decisions",
]

CONFIG_FORMAT = 1
RUN_FILES = (
    "config.json",
    "journal",
    "metrics.jsonl",
    "best.safetensors",
    "final.safetensors",
    "learning_curve.png",
    "summary.json",
)
"""Main files of a run's folder."""
_OTHER_FILES = (
    ".lock",
    "bad_batch.safetensors",
    "checkpoints/*.safetensors",
    "tensorboard/events.out.tfevents.*",
)
_FLAGS = (
    *("replayable", "slow_steps", "has_time_limit", "remembers", "selects_in_twin"),
    *("selects_sparingly", "checks_in_twin", "verifies_improvements"),
    *("selects_in_envpool",),
)
"""Resolved values that are true or false."""
Which = Literal["best", "final"]


def default_run_folder(config: TrainConfig) -> Path:
    """Return a folder below ``runs/`` that does not exist yet, named after the run."""
    module, colon, attribute = split_path(config.environment)
    # Use only a file's stem: a name that begins with dots would be hidden.
    module = Path(module).stem if is_file_name(module) else module
    name = f"{module}{colon}{attribute}".replace("/", "-").replace(":", "-")
    base = Path("runs") / f"{name}-{config.algorithm}-seed{config.seed}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def config_to_json(
    config: TrainConfig,
    resolved: dict[str, Any],
    resumptions: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the content of ``config.json``: settings, decisions, later budgets, and digest."""
    settings = {
        name: value if value != float("inf") else "inf"
        for name, value in dataclasses.asdict(config).items()
    }
    return sealed(
        {
            "format": CONFIG_FORMAT,
            "settings": settings,
            "resolved": resolved,
            "resumptions": resumptions or [],
        }
    )


def load_resumptions(folder: Path) -> list[dict[str, Any]]:
    """Return the budgets of each resumption, and the journal ``record`` at which they begin.

    Raises:
        FileFormatError: the file is damaged.
    """
    config, _ = load_config(folder)
    path = folder / "config.json"
    found = read_json(path).get("resumptions", [])
    if not isinstance(found, list):
        raise FileFormatError(f"{path} is damaged: its resumptions are {shown(found)}")
    before = -1
    for one in found:
        if not isinstance(one, dict) or not one.keys() <= {"record", *BUDGETS}:
            raise FileFormatError(f"{path} is damaged: a resumption is {shown(one)}")
        record = one.get("record")
        if type(record) is not int or not before < record <= MAX_COUNT:
            raise FileFormatError(f"{path} is damaged: a resumption is from {shown(record)}")
        before = record
        try:
            dataclasses.replace(config, **{name: one[name] for name in BUDGETS if name in one})
        except ConfigError as error:
            raise FileFormatError(f"{path} is damaged: in its resumptions, {error}") from error
    return found


def load_config(folder: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Return a run's settings, and the values that were resolved from them.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: its ``config.json`` is damaged or of another format version.
    """
    _require_folder(folder)
    content = read_json(folder / "config.json")
    if content.get("format") != CONFIG_FORMAT:
        raise FileFormatError(
            f"{folder / 'config.json'} has format version {shown(content.get('format'))}, but this "
            f"poise reads {CONFIG_FORMAT}"
        )
    settings, resolved = content.get("settings"), content.get("resolved")
    if not isinstance(settings, dict) or not isinstance(resolved, dict):
        raise FileFormatError(f"{folder / 'config.json'} is damaged: settings are missing")
    unknown = settings.keys() - {field.name for field in dataclasses.fields(TrainConfig)}
    if unknown:
        raise FileFormatError(
            f"{folder / 'config.json'} is damaged, or of another version of poise: there is no "
            f"setting {shown(min(unknown))}"
        )
    settings = {name: float("inf") if one == "inf" else one for name, one in settings.items()}
    try:
        config = TrainConfig(**{**BEFORE_SETTINGS, **settings})
    except ConfigError as error:
        raise FileFormatError(f"{folder / 'config.json'} is damaged: {error}") from error
    _check_resolved(folder / "config.json", resolved)
    return config, resolved


def _check_resolved(path: Path, resolved: dict[str, Any]) -> None:
    """Check the resolved values that poise uses."""
    target = resolved.get("target_return")
    if target is not None:
        number = json_number(target)
        if number is None or abs(number) > MAX_FACTOR:
            raise FileFormatError(f"{path} is damaged: its target_return is {shown(target)}")
    rate = resolved.get("learning_rate")
    if rate is not None:
        number = json_number(rate)
        if number is None or not 0 < number <= MAX_FACTOR:
            raise FileFormatError(f"{path} is damaged: its learning_rate is {shown(rate)}")
    for name in _FLAGS:
        flag = resolved.get(name)
        if flag is not None and not isinstance(flag, bool):
            raise FileFormatError(f"{path} is damaged: {name} is {shown(flag)}")


def with_decisions(config: TrainConfig, resolved: dict[str, Any]) -> TrainConfig:
    """Return a run's settings with the decisions made at its start, which a replay must repeat."""
    world, rate = resolved_world(resolved), config.learning_rate
    return dataclasses.replace(
        config,
        world=world,
        normalize_observations=_decided(resolved, "normalize_observations", ("on", "off")),
        learning_rate=resolved.get("learning_rate") if rate is None else rate,
        normalize_rewards=_decided(resolved, "normalize_rewards", ("on", "off"), "off"),
        activation=_decided(resolved, "activation", tuple(ACTIVATIONS), config.activation),
    )


def _decided(
    resolved: dict[str, Any], name: str, choices: tuple[str, ...], without: Any = None
) -> Any:
    """Return what was decided for a setting; ``without``, if it was no setting yet."""
    found = resolved.get(name, without)
    if found not in choices:
        raise FileFormatError(f"config.json is damaged: {name} was decided as {shown(found)}")
    return found


def resolved_world(resolved: dict[str, Any]) -> Any:
    """Return the kind of environment that the run stepped; a replay must step the same."""
    return _decided(resolved, "world", typing.get_args(WorldKind))


def load_summary(folder: Path) -> dict[str, Any]:
    """Load the ``summary.json`` of a run that has ended.

    Raises:
        RunFolderError: there is none.
        FileFormatError: it is damaged.
    """
    _require_folder(folder)
    return read_summary(folder / "summary.json")


@known_arguments
def load(run: str | Path, which: Which = "best", trust: bool = False) -> Policy:
    """Load the policy of a run.

    Args:
        run: a run's folder, or a policy file.
        which: ``best``, as selected by evaluation, or ``final``, the last parameters.
        trust: import the network that the file names by an import path, if it is not poise's own.

    Raises:
        RunFolderError: there is no such run or file.
        UntrustedImportError: the file names code to import, but ``trust`` is False.
        FileFormatError: the file is damaged or of another format version.
    """
    if which not in typing.get_args(Which):
        raise ConfigError(f"--which is {shown(which)}, but must be best or final")
    path = run_path(run)
    if path.is_dir():
        path = path / f"{which}.safetensors"
    try:
        content = read_bytes(path, MAX_POLICY_BYTES)
    except OSError as error:
        raise RunFolderError(f"there is no policy at {path}: {error.strerror}") from error
    find = functools.partial(network_from_file, trust=trust)
    return policy_from_bytes(content, str(path), find_network=find)


def run_path(run: object) -> Path:
    """Return the path of the run that a user names.

    Raises:
        ConfigError: it is not a path.
    """
    if isinstance(run, str | os.PathLike):
        return Path(run)
    hint = ""
    if run is None:
        hint = " (a run with keep=False leaves none: its policy is in the result of poise.train)"
    raise ConfigError(
        f"the run is {shown(run)}, but must be a folder's path, as text or Path{hint}"
    )


def policy_of(policy: Policy | str | Path, which: Which, trust: bool = False) -> Policy:
    """Return a policy as it is, or load it from a run's folder or a policy file.

    Raises:
        InputError: the same errors as `load`.
    """
    return policy if isinstance(policy, Policy) else load(policy, which, trust)


def target_return(run: str | Path, environment: EnvironmentChoice) -> float | None:
    """Return the target return of a run: its own setting, or Gymnasium's reward threshold."""
    folder = Path(run)
    if (folder / "config.json").is_file():
        return json_number(load_config(folder)[1].get("target_return"))
    if environment.imports:
        return None
    threshold: float | None = find_env_factory(environment).reward_threshold
    return threshold


@known_arguments
def remove_run(run: str | Path) -> None:
    """Remove a run: the files that poise wrote, and its folder if nothing else is in it.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: its ``config.json`` was not written by poise.
    """
    folder = run_path(run)
    load_config(folder)
    for pattern in (*RUN_FILES, *_OTHER_FILES):
        for path in folder.glob(pattern):
            # Files in a linked folder do not belong to the run.
            if path.parent == folder or not path.parent.is_symlink():
                path.unlink(missing_ok=True)
    for place in (folder / "checkpoints", folder / "tensorboard", folder):
        if place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
            place.rmdir()


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RunFolderError(f"there is no run folder {folder}")
