"""A run's folder: the names of its files, and reading them back."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, Literal

from poise.agent.policy import Policy
from poise.agent.policy_file import policy_from_bytes
from poise.config import EnvironmentChoice, TrainConfig, WorldKind
from poise.errors import ConfigError, FileFormatError, RunFolderError
from poise.runs.files import read_json
from poise.world.source import find_source

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
    "remove_run",
    "resolved_world",
    "target_return",
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
"""The files that a run leaves in its folder."""
_OTHER_FILES = (
    ".lock",
    "bad_batch.safetensors",
    "checkpoints/*.safetensors",
    "tensorboard/events.out.tfevents.*",
)
Which = Literal["best", "final"]


def default_run_folder(config: TrainConfig) -> Path:
    """A folder below ``runs/`` that does not exist yet, named after the run."""
    name = config.environment.replace("/", "-").replace(":", "-")
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
    """What ``config.json`` holds: settings, what was resolved, and budgets that came later."""
    settings = {
        name: value if value != float("inf") else "inf"
        for name, value in dataclasses.asdict(config).items()
    }
    return {
        "format": CONFIG_FORMAT,
        "settings": settings,
        "resolved": resolved,
        "resumptions": resumptions or [],
    }


def load_resumptions(folder: Path) -> list[dict[str, Any]]:
    """The budgets that a run was resumed under: ``record`` of the journal, and the budgets.

    Raises:
        FileFormatError: the file is damaged.
    """
    found = read_json(folder / "config.json").get("resumptions", [])
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("record"), int) for one in found
    ):
        raise FileFormatError(f"{folder / 'config.json'} is damaged: its resumptions")
    return found


def load_config(folder: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """The settings of a run, and what was resolved from them.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: its ``config.json`` is damaged or of another format version.
    """
    _require_folder(folder)
    content = read_json(folder / "config.json")
    if content.get("format") != CONFIG_FORMAT:
        raise FileFormatError(
            f"{folder / 'config.json'} has format version {content.get('format')!r}, but this "
            f"poise reads {CONFIG_FORMAT}"
        )
    settings, resolved = content.get("settings"), content.get("resolved")
    if not isinstance(settings, dict) or not isinstance(resolved, dict):
        raise FileFormatError(f"{folder / 'config.json'} is damaged: settings are missing")
    settings = {name: float("inf") if one == "inf" else one for name, one in settings.items()}
    try:
        return TrainConfig(**settings), resolved
    except (TypeError, ConfigError) as error:
        raise FileFormatError(f"{folder / 'config.json'} is damaged: {error}") from error


def resolved_world(resolved: dict[str, Any]) -> Any:
    """What the run stepped; a replay must step the same."""
    world = resolved.get("world")
    if world not in typing.get_args(WorldKind):
        raise FileFormatError(f"config.json is damaged: the world is {world!r}")
    return world


def load_summary(folder: Path) -> dict[str, Any]:
    """The ``summary.json`` of a run that has ended.

    Raises:
        RunFolderError: there is none.
        FileFormatError: it is damaged.
    """
    _require_folder(folder)
    return read_json(folder / "summary.json")


def load(run: str | Path, which: Which = "best") -> Policy:
    """Load the policy of a run.

    Args:
        run: a run's folder, or a policy file.
        which: ``best``, as selected by evaluation, or ``final``, the last parameters.

    Raises:
        RunFolderError: there is no such run or file.
        FileFormatError: the file is damaged or of another format version.
    """
    path = Path(run)
    if path.is_dir():
        path = path / f"{which}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"there is no policy at {path}: {error.strerror}") from error
    return policy_from_bytes(content, str(path))


def target_return(run: str | Path, environment: EnvironmentChoice) -> float | None:
    """What solves a run's environment: its own setting, or Gymnasium's reward threshold."""
    folder = Path(run)
    if (folder / "config.json").is_file():
        target = load_config(folder)[1].get("target_return")
        return float(target) if isinstance(target, int | float) else None
    if environment.imports:
        return None
    threshold: float | None = find_source(environment).reward_threshold
    return threshold


def remove_run(run: str | Path) -> None:
    """Remove a run: the files that poise wrote, and its folder if nothing else is in it.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: its ``config.json`` is not one of poise.
    """
    folder = Path(run)
    load_config(folder)
    for pattern in (*RUN_FILES, *_OTHER_FILES):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    for place in (folder / "checkpoints", folder / "tensorboard", folder):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RunFolderError(f"there is no run folder {folder}")
