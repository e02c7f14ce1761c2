"""What people type: numbers as 1e5, and flags that another trainer has under another name."""

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
    "algo": "here it is --algorithm",
    "batch-size": "a batch is --envs-per-worker times --rollout-length steps",
    "config": "settings are flags, and a run's are in its config.json",
    "cuda": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "device": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "env": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "env-id": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "env-name": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "environment": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "eval": "poise evaluate RUN scores a run's policy",
    "frame-stack": "--wrappers takes gymnasium.wrappers:FrameStackObservation and the like",
    "gpu": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "load": "poise resume RUN goes on with a run",
    "load-model": "poise resume RUN goes on with a run",
    "minibatch-size": "a batch is --envs-per-worker times --rollout-length steps",
    "n-epochs": "A3C takes every step once",
    "no-cuda": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "play": "poise play RUN shows a run's policy",
    "render": "poise play RUN --render human shows a run's policy in a window",
    "resume": "poise resume RUN goes on with a run",
    "run": "the run's folder stands alone, as in poise {command} RUN",
    "run-dir": "the run's folder stands alone, as in poise {command} RUN",
    "train": "poise train begins a run",
    "update-epochs": "A3C takes every step once",
    "verbose": "--quiet prints nothing, and without it progress is shown",
}
"""What is no flag here, and what there is instead."""

_BY_COMMAND = {
    "evaluate": {"n-eval-episodes": "episodes", "eval-episodes": "episodes"},
    "bench": {"n-envs": "envs-per-worker"},
}
_EPISODES = ("n-episodes", "num-episodes", "n-eval-episodes", "eval-episodes", "max-episodes")
"""Names of the number of episodes, where a command plays some and has no other number of them."""


whole_numbers = ConstructorRegistry()
"""Reads whole numbers as people write them, ``1e5`` and ``100_000``, wherever a flag takes one."""


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
    """A whole number; of those with a power of ten, only what a float holds exactly."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer() or abs(number) > 2**53:
            raise
        return int(number)


def join_help_lines(kind: Any) -> None:
    """Have tyro wrap the help of a command's flags to the terminal, not as our source is wrapped.

    It joins the lines of a docstring before it takes their indentation away, and so takes each
    that is indented for a paragraph.
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
    """Look at the flags of a command before they are parsed.

    Args:
        command: its name.
        kind: its class.
        arguments: behind its name.

    Raises:
        ConfigError: one is not a flag of the command; the message names what it is called here.
    """
    known = set(_flags(kind))
    problems = []
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0].replace("_", "-")
        if not argument.startswith("--") or not name or name == "help" or name.startswith("tyro-"):
            continue
        if name not in known and name.removeprefix("no-") not in known:
            problems.append(f"no --{name}: {_instead(command, name, known)}")
    if problems:
        more = f" (poise {command} --help lists its flags)"
        raise ConfigError(f"{command} has {'; '.join(problems)}{more}")


def _flags(kind: Any) -> Iterator[str]:
    """The flags of a command's class."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if typing.get_type_hints(kind)[field.name] is TrainConfig:
            yield from _flags(TrainConfig)
        elif "Positional" not in str(hints[field.name]):
            yield field.name.replace("_", "-")


def _instead(command: str, name: str, known: set[str]) -> str:
    """What there is instead of an unknown flag."""
    ours = _BY_COMMAND.get(command, {}).get(name) or ALIASES.get(name, "")
    flag = ours.partition(" ")[0].removeprefix("no-")
    if flag in known:
        return f"here it is --{ours}"
    if name in _EPISODES and "episodes" in known:
        return "here it is --episodes"
    if command == "resume" and (
        name in set(_flags(TrainConfig)) or flag in set(_flags(TrainConfig))
    ):
        return (
            "a run's settings are fixed when it begins, and only --max-steps, --max-episodes and "
            "--max-seconds can be changed; poise train begins another"
        )
    if name in _OTHERWISE:
        return _OTHERWISE[name].format(command=command)
    near = difflib.get_close_matches(name, sorted(known), n=2)
    if near:
        return f"perhaps you meant {' or '.join(f'--{one}' for one in near)}"
    return "there is nothing like it"
