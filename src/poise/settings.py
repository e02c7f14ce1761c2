"""The names of all settings, and errors for unknown names and for settings that are fixed."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from poise.argument_names import nearest
from poise.config import TrainConfig
from poise.errors import ConfigError
from poise.validation import shown

__all__ = [
    "BEFORE_SETTINGS",
    "BUDGETS",
    "SETTINGS",
    "known_arguments",
    "refuse_settings",
    "require_settings",
]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

SETTINGS = tuple(field.name for field in dataclasses.fields(TrainConfig))
"""The names of all settings."""
BUDGETS = ("max_steps", "max_episodes", "max_seconds")
"""The settings that `resume` may change."""
BEFORE_SETTINGS: Mapping[str, Any] = {"activation": "relu", "normalize_rewards": "off"}
"""What runs did before a setting existed, where it is not the setting's default."""
_TRAIN = ("run_dir", "keep", "quiet", "callbacks", "tensorboard", "preset")
_RESUME = (*BUDGETS, "quiet", "callbacks", "tensorboard", "environment", "trust")


def require_settings(names: Iterable[str]) -> None:
    """Raise `ConfigError` for the first unknown name, and suggest the nearest setting."""
    for name in names:
        if name not in SETTINGS:
            raise ConfigError(_unknown(name, "setting", (*SETTINGS, *_TRAIN)))


def refuse_settings(names: Iterable[str]) -> None:
    """Raise `ConfigError` for the first name: a resumed run accepts no other arguments."""
    for name in names:
        meant = name if name in SETTINGS else nearest(name, (*SETTINGS, *_RESUME))
        if meant in SETTINGS and meant not in _RESUME:
            flag = meant.replace("_", "-")
            raise ConfigError(
                f"--{flag} cannot be given to resume, because a run's settings are fixed: start a "
                f"new run with it (train), or continue this one without it; resume accepts only "
                "new budgets (--max-steps, --max-episodes, --max-seconds)"
            )
        raise ConfigError(_unknown(name, "argument of resume", _RESUME))


def known_arguments(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a public function: an unknown argument is an error that suggests the nearest."""
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        for name in kwargs:
            if name not in names:
                raise ConfigError(_unknown(name, f"argument of {function.__name__}", names))
        return function(*args, **kwargs)

    return checked


def _unknown(name: str, kind: str, known: tuple[str, ...]) -> str:
    meant = nearest(name, known)
    hint = f": perhaps you meant {meant}" if meant else ""
    return f"there is no {kind} {shown(name)}{hint}"
