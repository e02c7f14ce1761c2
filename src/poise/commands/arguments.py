"""Checks of the command line before it is parsed, so that each mistake gets a one-line error.

The types come from the commands' fields, from which the flags are generated too.
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, NamedTuple

from poise.commands.flags import read_whole
from poise.config import TrainConfig
from poise.errors import ConfigError

__all__ = ["Given", "require_command", "require_readable"]

_OTHERWISE = {
    "enjoy": "play",
    "eval": "evaluate",
    "help": "--help",
    "list": "runs",
    "ls": "runs",
    "show": "play",
    "test": "evaluate",
    "version": "--version",
    "watch": "play",
}
"""Other programs' names for poise's commands."""
_LIKE_AN_ENVIRONMENT = re.compile(r".+(-v\d+|:.+)")


class Given(NamedTuple):
    """What was given on the command line.

    Attributes:
        positional: the arguments without a flag.
        flags: the values of each flag, by the name of its field; none for a switch.
    """

    positional: list[str]
    flags: dict[str, list[str]]


def require_command(arguments: Sequence[str], commands: Sequence[str]) -> None:
    """Raise `ConfigError` unless the first argument is a command, or a flag of poise itself."""
    more = " (poise --help describes them)"
    if not arguments:
        raise ConfigError(f"name a command: {', '.join(commands)}{more}")
    name = arguments[0]
    if name in commands or name in ("-h", "--help") or name.startswith("--tyro-"):
        return
    word = name.removeprefix("--")
    near = difflib.get_close_matches(word, [*commands, "version", "help"], n=1)
    meant = _OTHERWISE.get(word) or next(iter(near), "")
    meant = _OTHERWISE.get(meant, meant)
    if _LIKE_AN_ENVIRONMENT.fullmatch(name):
        hint = f"poise train {name} trains on an environment"
    elif meant:
        hint = f"perhaps you meant poise {meant}"
    else:
        hint = f"the commands are {', '.join(commands)}"
    raise ConfigError(f"there is no command {name!r}: {hint}{more}")


def require_readable(command: str, kind: Any, arguments: Sequence[str]) -> Given:
    """Check the values of a command's flags, and its positional arguments, and return them.

    Args:
        command: the command's name.
        kind: the command's class.
        arguments: the arguments after the name, with known flags only.

    Raises:
        ConfigError: a value is invalid or missing, or there is one too many.
    """
    if {"-h", "--help"} & set(arguments):
        return Given([], {})
    flags: dict[str, list[str]] = {}
    fields = _fields(kind)
    alone = [name for name, (_, is_alone) in fields.items() if is_alone]
    found, problems, position = [], [], 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument.startswith("--"):
            values = _values(arguments, position)
            flag, equals, value = argument.removeprefix("--").partition("=")
            given = [value] if equals else []
            used, problem = _read(flag.replace("_", "-"), fields, given, values)
            position += used
            flags[flag.replace("-", "_").removeprefix("no_")] = given + values[:used]
            problems += [problem] if problem else []
        elif argument.startswith("-") and not _is_number(argument):
            problems.append(f"there is no {argument}: flags start with two dashes")
        else:
            found.append(argument)
    required = [name for name in alone if _has_no_default(kind, name)]
    if len(found) > len(alone):
        texts = " and ".join(map(repr, found))
        problems.append(f"{command} takes one {alone[0]}, but got {texts}")
    elif len(found) < len(required):
        problems.append(f"{command} needs a {alone[0]}, for example poise {command} runs/first")
    if problems:
        raise ConfigError(f"{'; '.join(problems)} (poise {command} --help lists its flags)")
    return Given(found, flags)


def _values(arguments: Sequence[str], position: int) -> list[str]:
    """The values after a flag, up to the next flag."""
    values = []
    for argument in arguments[position:]:
        if argument.startswith("-") and not _is_number(argument):
            break
        values.append(argument)
    return values


def _read(
    flag: str, fields: Mapping[str, tuple[Any, bool]], given: list[str], behind: list[str]
) -> tuple[int, str]:
    """The number of following values that belong to a flag, and their error (empty if none)."""
    hint, _ = fields.get(flag, (None, False))
    if hint is None:
        turned, _ = fields.get(flag.removeprefix("no-"), (None, False))
        if turned is not bool:
            name = flag.removeprefix("no-")
            return 0, f"there is no --{flag}: omit --{name} to get its default"
        hint = bool
    if hint is bool:
        if not given:
            return 0, ""
        switch = flag.removeprefix("no-")
        return 0, f"--{flag} takes no value: write --{switch} or --no-{switch}"
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        if kind is not str and not given + behind:
            return 0, f"--{flag} needs one or more values, each {_described(kind)}"
        wrong = [text for text in given + behind if not _fits(kind, text)]
        return len(behind), _unfit(flag, wrong[0], kind) if wrong else ""
    if not given and not behind:
        return 0, f"--{flag} needs a value, {_described(hint)}"
    value = given[0] if given else behind[0]
    return (0 if given else 1), "" if _fits(hint, value) else _unfit(flag, value, hint)


def _unfit(flag: str, value: str, hint: Any) -> str:
    return f"--{flag} is {value!r}, but must be {_described(hint)}"


def _fits(hint: Any, text: str) -> bool:
    """Whether a text is a valid value of a type."""
    if typing.get_origin(hint) is Literal:
        return text in typing.get_args(hint)
    options = _options(hint)
    if len(options) > 1:
        return any(_fits(one, text) for one in options)
    if hint is NoneType:
        return text == "None"
    try:
        if hint is int:
            read_whole(text)
        elif hint is float:
            float(text)
    except (ValueError, OverflowError):
        return False
    return True


def _described(hint: Any) -> str:
    """A type in words, such as "a whole number"."""
    kinds = [one for one in _options(hint) if one is not NoneType]
    if typing.get_origin(kinds[0]) is Literal:
        *others, last = map(str, typing.get_args(kinds[0]))
        return f"{', '.join(others)} or {last}" if others else last
    return {int: "a whole number", float: "a number"}.get(kinds[0], "text")


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union type; otherwise the type itself."""
    is_literal = typing.get_origin(hint) is Literal
    return (hint,) if is_literal else typing.get_args(hint) or (hint,)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The type of each argument of a command, and whether the argument is positional."""
    return dict(_each_field(kind))


def _each_field(kind: Any) -> Iterator[tuple[str, tuple[Any, bool]]]:
    plain = typing.get_type_hints(kind)
    annotated = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if plain[field.name] is TrainConfig:
            yield from _each_field(TrainConfig)
        else:
            is_alone = "Positional" in str(annotated[field.name])
            yield field.name.replace("_", "-"), (plain[field.name], is_alone)


def _has_no_default(kind: Any, name: str) -> bool:
    return any(
        field.name == name
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        for field in dataclasses.fields(kind)
    )
