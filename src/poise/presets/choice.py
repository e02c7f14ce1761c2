"""Which preset a run uses: the one for its environment, one that the user names, or none."""

import contextlib
import functools
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from poise.argument_names import nearest
from poise.errors import ConfigError
from poise.presets.preset import Preset, preset_from_bytes, read_preset
from poise.validation import shown

__all__ = ["AUTO", "NONE", "built_in", "choose_preset", "explained"]

AUTO, NONE = "auto", "none"


@functools.cache
def built_in() -> dict[str, Preset]:
    """Return the presets that come with poise, by name."""
    files = sorted(resources.files("poise.presets").joinpath("files").iterdir(), key=str)
    found = (
        preset_from_bytes(one.read_bytes(), one.name.removesuffix(".toml"), one.name)
        for one in files
        if one.name.endswith(".toml")
    )
    return {preset.name: preset for preset in found}


@contextlib.contextmanager
def explained(preset: Preset | None) -> Iterator[None]:
    """Add to errors about settings that some of them come from a preset."""
    try:
        yield
    except ConfigError as error:
        if preset is not None:
            error.add_note(
                f"settings that were not given come from the preset {preset.name}: --preset none "
                "turns it off, and --show-config prints them"
            )
        raise


def choose_preset(choice: str, environment: str, algorithm: Any = None) -> Preset | None:
    """Find the preset for a run.

    Args:
        choice: ``auto``, ``none``, the name of a preset of poise, or the path of a TOML file.
        environment: the environment's id.
        algorithm: the algorithm, if the user has chosen one; a preset for it is then preferred
            to others, and a preset for another algorithm is used only if the user names it.

    Raises:
        ConfigError: there is no such preset, or one of its settings is invalid.
        FileFormatError: the file is damaged, or of another version.
    """
    if not isinstance(choice, str):
        raise ConfigError(f"preset is {shown(choice)}, but must be a text: auto, none or a name")
    if choice == NONE:
        return None
    if choice == AUTO:
        fitting = [one for one in built_in().values() if one.is_for(environment)]
        if algorithm is None:
            fitting = [one for one in fitting if one.automatic]
        else:
            fitting = [one for one in fitting if one.algorithm == algorithm]
        # One that names the environment comes before one for a whole family.
        fitting.sort(key=lambda one: not one.names(environment))
        return fitting[0] if fitting else None
    if choice in built_in():
        return built_in()[choice]
    if choice.endswith(".toml"):
        return read_preset(Path(choice))
    names = (*built_in(), AUTO, NONE)
    near = nearest(choice, names)
    hint = f"perhaps you meant {near}" if near else f"the presets are {', '.join(names)}"
    raise ConfigError(
        f"there is no preset {shown(choice)}: {hint} (a file of your own must end in .toml)"
    )
