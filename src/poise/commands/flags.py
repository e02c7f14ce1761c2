"""Flags as people type them: numbers such as 1e5, and other trainers' names for flags."""

import dataclasses
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Sequence, Set
from typing import Any

import docstring_parser
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from poise.config import TrainConfig
from poise.errors import ConfigError
from poise.other_trainers import ALIASES

__all__ = ["join_help_lines", "read_whole", "require_known_flags", "whole_numbers"]

_BATCH = (
    "--minibatches divides a batch, which has --workers times --envs-per-worker times "
    "--rollout-length steps"
)
OTHERWISE: dict[str, str] = {
    "batch-size": _BATCH,
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
    "minibatch-size": _BATCH,
    "no-cuda": "JAX chooses the device: set JAX_PLATFORMS=cpu or cuda in the environment",
    "play": "poise play RUN shows a run's policy",
    "render": "poise play RUN --render human shows a run's policy in a window",
    "resume": "poise resume RUN continues a run",
    "run": "write the run's folder without a flag, as in poise {command} RUN",
    "run-dir": "write the run's folder without a flag, as in poise {command} RUN",
    "train": "poise train starts a run",
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
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        text = inspect.cleandoc(texts.get(field.name) or "")
        if text:
            field.metadata = types.MappingProxyType(
                {**field.metadata, "help": text.replace("\n", " ")}
            )
        if hints[field.name] is TrainConfig:
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
    known = _flags(kind)
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


@functools.cache
def _flags(kind: Any) -> frozenset[str]:
    """The names of a command's flags."""
    plain = typing.get_type_hints(kind)
    annotated = typing.get_type_hints(kind, include_extras=True)
    found: set[str] = set()
    for field in dataclasses.fields(kind):
        if plain[field.name] is TrainConfig:
            found |= _flags(TrainConfig)
        elif "Positional" not in str(annotated[field.name]):
            found.add(field.name.replace("_", "-"))
    return frozenset(found)


def _instead(command: str, name: str, known: Set[str]) -> str:
    """A hint on what to use instead of an unknown flag."""
    ours = _BY_COMMAND.get(command, {}).get(name) or ALIASES.get(name, "")
    flag = ours.partition(" ")[0].removeprefix("no-")
    if flag in known:
        return f"use --{ours}"
    if name in _EPISODES and "episodes" in known:
        return "use --episodes"
    if command == "resume" and not _flags(TrainConfig).isdisjoint((name, flag)):
        return (
            "a run's settings are fixed when it starts, and only --max-steps, --max-episodes and "
            "--max-seconds can be changed; start a new run with poise train"
        )
    if name in OTHERWISE:
        return OTHERWISE[name].format(command=command)
    near = difflib.get_close_matches(name, sorted(known), n=2)
    if near:
        return f"perhaps you meant {' or '.join(f'--{one}' for one in near)}"
    return "no flag has a similar name"
