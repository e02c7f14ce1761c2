"""How messages name arguments: ``--max-steps`` on the command line, ``max_steps`` in Python.

Messages in the source use flags. When poise is called from Python, each flag is rewritten as the
function's argument: ``--launcher serial`` becomes ``launcher="serial"``.
"""

import contextlib
import difflib
import re
import shlex
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from poise.other_trainers import ALIASES

__all__ = ["as_flags", "given", "know", "nearest", "spelled"]

_FLAG = re.compile(r"(?<![\w-])--(no-)?([a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?![\w-])")
_NUMBER = re.compile(r"[ =](-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w-])")
_WORD = re.compile(r"(?: or |[ =])([\w-]+)")

_IN_PYTHON = {
    "env": "environment",
    "env_id": "environment",
    "callback": "callbacks",
    "subscriber": "callbacks",
}
"""Other trainers' names for arguments that poise has only in Python."""

_switches = {"trust", "quiet", "tensorboard", "json", "show_config"}
_choices: dict[str, tuple[str, ...]] = {
    "which": ("best", "final"),
    "preset": ("auto", "none"),
}
_others = {"run_dir", "episodes", "step_limit", "copies", "seconds", "keep"}
_renamed = {"render": "render_mode"}
"""Arguments whose names differ between commands and Python functions."""
_flags_are_meant = False


def know(hints: Mapping[str, Any]) -> None:
    """Register settings by their annotations. Only registered names are rewritten in messages."""
    for name, hint in hints.items():
        if hint is bool:
            _switches.add(name)
        elif typing.get_origin(hint) is Literal:
            _choices[name] = typing.get_args(hint)
        else:
            _others.add(name)


@contextlib.contextmanager
def as_flags() -> Iterator[None]:
    """Keep flags in messages: on the command line, and in messages for a parent process."""
    global _flags_are_meant
    before, _flags_are_meant = _flags_are_meant, True
    try:
        yield
    finally:
        _flags_are_meant = before


def spelled(text: str) -> str:
    """A message with its arguments named as flags or as in Python, depending on the caller."""
    if _flags_are_meant or "--" not in text:
        return text
    parts, position = [], 0
    while (found := _FLAG.search(text, position)) is not None:
        said, end = _argument(found, text)
        parts.append(text[position : found.start()] + said)
        position = end
        # A flag that follows directly is another argument of the same call.
        if "=" in said and text.startswith(" --", end):
            parts.append(",")
    return "".join(parts) + text[position:]


def given(name: str, values: Sequence[str]) -> str:
    """An argument with several text values, written as a flag or as in Python."""
    if _flags_are_meant:
        return f"--{name.replace('_', '-')} {' '.join(map(shlex.quote, values))}"
    return f"{name}={list(values)!r}"


def _argument(found: re.Match[str], text: str) -> tuple[str, int]:
    """One flag and its values in Python's notation, and the position after them."""
    name, end = found[2].replace("-", "_"), found.end()
    if name in _renamed:
        return _renamed[name], end
    if name in _switches:
        # "--trust is 5" is about the argument itself.
        value = "" if text.startswith(" is ", end) else f"={not found[1]}"
        return name + value, end
    if name in _others:
        number = _NUMBER.match(text, end)
        return (f"{name}={number[1]}", number.end()) if number else (name, end)
    values = []
    while (word := _WORD.match(text, end)) and word[1] in _choices.get(name, ()):
        values.append(f'"{word[1]}"')
        end = word.end()
    if name in _choices:
        return name + ("=" + " or ".join(values) if values else ""), end
    return found[0], end


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant: by another trainer's name, or by similarity."""
    alias = ALIASES.get(name.replace("_", "-"), "").partition(" ")[0]
    foreign = _IN_PYTHON.get(name, alias.replace("-", "_"))
    if foreign in known:
        return foreign
    alike: Iterable[str] = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return next(iter(alike), None)
