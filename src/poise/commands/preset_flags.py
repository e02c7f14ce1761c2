"""The settings of a preset as flags, which come after those that the user has given."""

import math
from typing import Any

from poise.commands.arguments import Given
from poise.config import TrainConfig
from poise.presets.choice import AUTO, NONE, choose_preset
from poise.presets.preset import Preset

__all__ = ["given_preset", "preset_flags"]


def given_preset(given: Given) -> Preset | None:
    """Return the preset that ``poise train`` uses; None if it uses none.

    Args:
        given: what was given to the command.

    Raises:
        InputError: the preset that was named cannot be used.
    """
    environment = next(iter(given.positional), TrainConfig.environment)
    algorithm = next(iter(given.flags.get("algorithm", ())), None)
    return choose_preset(_choice(given), environment, algorithm)


def preset_flags(preset: Preset | None, given: Given) -> list[str]:
    """Return a preset's settings as flags, except those that were given."""
    # Whether a flag was given cannot be seen any more after parsing.
    if preset is None:
        return ["--preset", NONE]
    flags = ["--preset", preset.name] if _choice(given) == AUTO else []
    for name, value in preset.settings.items():
        if name not in given.flags:
            flags += _flag(name.replace("_", "-"), value)
    return flags


def _choice(given: Given) -> str:
    return next(iter(given.flags.get("preset", ())), AUTO)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{name}", *("inf" if one == math.inf else str(one) for one in values)]
