"""Flags as people type them: numbers such as 1e5, and other trainers' names for flags."""

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import docstring_parser
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from poise.config import TrainConfig
from poise.errors import ConfigError
from poise.other_trainers import ALIASES

__all__ = ["join_help_lines", "read_whole", "require_known_flags", "whole_numbers"]

_OTHERWISE: dict[str, str] = {
    "algo": "use --algorithm",
    "batch-size": "a batch is --envs-per-worker times --rollout-length steps",
    "config": "settings are flags, and a run's settings are in its config.json",
    "cuda": "JAX chooses the device: set JAX_PLATFORMS=cpu or cuda in the environment",
    "device": "JAX chooses the device: set JAX_PLATFORMS=cpu or cuda in the environment",
    "env": "write the environment's name without a flag, as in poise {command} CartPole-v1",
    "env-id": "write the environment's name without a flag, as in poise {command} CartPole-v1",
    "env-name": "write the environment's name without a flag, as in poise {command} CartPole-v1",
    "environment": "write the environment's name without a flag, as in poise {command} CartPole-v1",
    "eval": "poise evaluate RUN scores a run's policy",
    "frame-stack": "--wrappers takes gymnasium.wrappers:FrameStackObservation and similar wrappers",
    "gpu": "JAX chooses the device: set JAX_PLATFORMS=cpu or cuda in the environment",
    "load": "poise resume RUN continues a run",
    "load-model": "poise resume RUN continues a run",
    "minibatch-size": "a batch is --envs-per-worker times --rollout-length steps",
    "n-epochs": "A3C uses every step once",
    "no-cuda": "JAX chooses the device: set JAX_PLATFORMS=cpu or cuda in the environment",
    "play": "poise play RUN shows a run's policy",
    "render": "poise play RUN --render human shows a run's policy in a window",
    "resume": "poise resume RUN continues a run",
    "run": "write the run's folder without a flag, as in poise {command} RUN",
    "run-dir": "write the run's folder without a flag, as in poise {command} RUN",
    "train": "poise train starts a run",
    "update-epochs": "A3C uses every step once",
    "verbose": "progress is shown by default; --quiet prints nothing",
}
"""Hints for flags that poise does not have."""

_BY_COMMAND = {
    "evaluate": {"n-eval-episodes": "episodes", "eval-episodes": "episodes"},
    "bench": {"n-envs": "envs-per-worker"},
}
_EPISODES = ("n-episodes", "num-episodes", "n-eval-episodes", "eval-episodes", "max-episodes")
"""Other names for --episodes, in commands that have this flag."""


whole_numbers = ConstructorRegistry()
"""Makes every flag that takes a whole number accept ``1e5`` and ``100_000`` too."""


@whole_numbers.primitive_rule
def _whole_number(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    if type_info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda texts: read_whole(texts[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def read_whole(text: str) -> int:
    """Read a whole number. Exponents are accepted if a float can hold the value exactly."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer() or abs(number) > 2**53:
            raise
        return int(number)


def join_help_lines(kind: Any) -> None:
    """Join the lines of each help text, so that tyro wraps it to the terminal's width.

    tyro joins the lines of a docstring before it removes their indentation, and treats each
    indented line as a new paragraph.
    """
    texts = {
        one.arg_name: one.description for one in docstring_parser.parse_from_object(kind).params
    }
    for field in dataclasses.fields(kind):
        text = inspect.cleandoc(texts.get(field.name) or "")
        if text:
            field.metadata = types.MappingProxyType(
                {**field.metadata, "help": text.replace("\n", " ")}
            )
        if typing.get_type_hints(kind)[field.name] is TrainConfig:
            join_help_lines(TrainConfig)


def require_known_flags(command: str, kind: Any, arguments: Sequence[str]) -> None:
    """Check that a command has all the flags that were given.

    Args:
        command: the command's name.
        kind: the command's class.
        arguments: the arguments after the name.

    Raises:
        ConfigError: the command has no such flag; the message suggests what to use instead.
    """
    known = set(_flags(kind))
    problems = []
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0].replace("_", "-")
        if not argument.startswith("--") or not name or name == "help" or name.startswith("tyro-"):
            continue
        if name not in known and name.removeprefix("no-") not in known:
            problems.append(f"no flag --{name}: {_instead(command, name, known)}")
    if problems:
        more = f" (poise {command} --help lists its flags)"
        raise ConfigError(f"{command} has {'; '.join(problems)}{more}")


def _flags(kind: Any) -> Iterator[str]:
    """The names of a command's flags."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if typing.get_type_hints(kind)[field.name] is TrainConfig:
            yield from _flags(TrainConfig)
        elif "Positional" not in str(hints[field.name]):
            yield field.name.replace("_", "-")


def _instead(command: str, name: str, known: set[str]) -> str:
    """A hint on what to use instead of an unknown flag."""
    ours = _BY_COMMAND.get(command, {}).get(name) or ALIASES.get(name, "")
    flag = ours.partition(" ")[0].removeprefix("no-")
    if flag in known:
        return f"use --{ours}"
    if name in _EPISODES and "episodes" in known:
        return "use --episodes"
    if command == "resume" and (
        name in set(_flags(TrainConfig)) or flag in set(_flags(TrainConfig))
    ):
        return (
            "a run's settings are fixed when it starts, and only --max-steps, --max-episodes and "
            "--max-seconds can be changed; start a new run with poise train"
        )
    if name in _OTHERWISE:
        return _OTHERWISE[name].format(command=command)
    near = difflib.get_close_matches(name, sorted(known), n=2)
    if near:
        return f"perhaps you meant {' or '.join(f'--{one}' for one in near)}"
    return "no flag has a similar name"
