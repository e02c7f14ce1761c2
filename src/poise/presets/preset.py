"""A preset: settings for some environments, read from a TOML file.

A file has a ``format_version``; the ``environments`` that it is for; ``actions``, if it is only for
discrete or for continuous ones; what it ``reached``, and how that was measured; and its
``settings``, by their names in `TrainConfig`. Comments say where each value comes from.
"""

import dataclasses
import fnmatch
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from poise.config import TrainConfig
from poise.errors import ConfigError, FileFormatError
from poise.safe_open import read_bytes
from poise.settings import BUDGETS, require_settings
from poise.validation import shown

__all__ = ["FORMAT_VERSION", "Actions", "Preset", "preset_from_bytes", "read_preset", "to_toml"]

FORMAT_VERSION = 1
MAX_PRESET_BYTES = 1 << 20
Actions = Literal["any", "discrete", "continuous"]
_KEYS = ("format_version", "environments", "actions", "automatic", "reached", "settings")
_ABOUT_ONE_RUN = ("environment", "seed")
"""Settings that a preset cannot hold."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings for some environments.

    Attributes:
        name: the file's name without its suffix.
        environments: Gymnasium ids; ``*`` stands for any characters.
        settings: values by the names of `TrainConfig`'s fields.
        actions: the kind of action space that it is for.
        automatic: whether it is used for its environments without being named.
        reached: what it reached, and how that was measured.
    """

    name: str
    environments: tuple[str, ...]
    settings: Mapping[str, Any]
    actions: Actions = "any"
    automatic: bool = True
    reached: str = ""

    @property
    def algorithm(self) -> str:
        """The algorithm whose settings these are."""
        return str(self.settings.get("algorithm", TrainConfig.algorithm))

    def is_for(self, environment: str) -> bool:
        """Return whether an environment, ``id`` or ``module:id``, is one of those it is for."""
        name = environment.rpartition(":")[2]
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.environments)

    def names(self, environment: str) -> bool:
        """Return whether it is for this environment itself, and not only for its family."""
        return environment.rpartition(":")[2] in self.environments

    def applied_to(self, config: TrainConfig) -> TrainConfig:
        """Return a configuration with the preset's settings where it has the defaults."""
        usual = TrainConfig(config.environment)
        settings = {
            name: value
            for name, value in self.settings.items()
            if getattr(config, name) == getattr(usual, name)
        }
        return dataclasses.replace(config, **settings)

    def require_actions(self, continuous: bool) -> None:
        """Raise `ConfigError` if the preset is for the other kind of actions."""
        has = "continuous" if continuous else "discrete"
        if self.actions not in ("any", has):
            raise ConfigError(
                f"the preset {self.name} is for {self.actions} actions, but the environment has "
                f"{has} ones: use --preset none, or another preset"
            )


def read_preset(path: Path) -> Preset:
    """Read a preset from a file.

    Raises:
        ConfigError: there is no such file, or a setting is invalid.
        FileFormatError: the file is damaged, or of another version.
    """
    try:
        content = read_bytes(path, MAX_PRESET_BYTES)
    except OSError as error:
        raise ConfigError(f"the preset {path} cannot be read: {error.strerror or error}") from error
    return preset_from_bytes(content, path.stem, str(path))


def preset_from_bytes(content: bytes, name: str, source: str) -> Preset:
    """Make a preset of a file's content.

    Args:
        content: TOML.
        name: the preset's name.
        source: the file's name, for errors.

    Raises:
        ConfigError: a setting is unknown or invalid.
        FileFormatError: the content is not that of a preset, or of another version.
    """
    try:
        found = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFormatError(f"{source} is not a TOML file: {error}") from error
    version = found.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise FileFormatError(
            f"{source} has format_version {shown(version)}, but this version of poise reads "
            f"presets of format_version {FORMAT_VERSION}"
        )
    for key in found:
        if key not in _KEYS:
            raise FileFormatError(
                f"{source} has an unknown key {shown(key)}: a preset has {', '.join(_KEYS)}"
            )
    settings = _table(found, source)
    environments = _environments(found, source)
    actions, automatic = found.get("actions", "any"), found.get("automatic", True)
    if actions not in ("any", "discrete", "continuous"):
        raise FileFormatError(
            f"{source}: actions is {shown(actions)}, but must be any, discrete or continuous"
        )
    reached = found.get("reached", "")
    if not isinstance(automatic, bool) or not isinstance(reached, str):
        raise FileFormatError(f"{source}: automatic must be true or false, and reached a text")
    return Preset(name, environments, settings, actions, automatic, reached)


def _table(found: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The settings, checked."""
    settings = found.get("settings", {})
    if not isinstance(settings, dict):
        raise FileFormatError(f"{source}: settings must be a table")
    try:
        require_settings(settings)
        for name in _ABOUT_ONE_RUN:
            if name in settings:
                raise ConfigError(f"{name} is about a single run, so a preset cannot hold it")
        if "max_steps" not in settings and any(one in settings for one in BUDGETS):
            raise ConfigError("a preset that has a budget must have max_steps")
        TrainConfig(**settings)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error.problem}", error.advice) from error
    return settings


def _environments(found: Mapping[str, Any], source: str) -> tuple[str, ...]:
    environments = found.get("environments", [])
    if not isinstance(environments, list) or not all(isinstance(one, str) for one in environments):
        raise FileFormatError(f"{source}: environments must be a list of Gymnasium ids")
    return tuple(environments)


def to_toml(config: TrainConfig) -> str:
    """Return a configuration as the text of a preset for its environment.

    Settings whose value is None (decided when the run begins) are comments.
    """
    lines = [
        f"format_version = {FORMAT_VERSION}",
        f"environments = {_value([config.environment])}",
        "",
        "[settings]",
    ]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in _ABOUT_ONE_RUN:
            lines.append(
                f"# {field.name}: decided when the run begins"
                if value is None
                else f"{field.name} = {_value(value)}"
            )
    return "\n".join(lines)


def _value(value: Any) -> str:
    """A value in TOML, whose strings, numbers, booleans and lists are those of JSON, except inf."""
    return str(value) if value == float("inf") else json.dumps(value, ensure_ascii=False)
