"""Checks of flag values that are not settings of a run, and wrapping of text to the terminal."""

import shutil
import sys
import textwrap
from typing import TextIO

from poise.errors import ConfigError

__all__ = ["require_positive", "terminal_width", "wrapped"]


def require_positive(flag: str, value: int) -> None:
    """Raise `ConfigError` unless the value of a flag is 1 or more."""
    if value < 1:
        raise ConfigError(f"{flag} is {value}, but must be 1 or more")


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Width of the terminal in characters; None if the stream is not a terminal, or is closed.

    Args:
        stream: the stream; default: standard output.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None or stream.closed or not stream.isatty():
        return None
    return shutil.get_terminal_size((80, 24)).columns


def wrapped(line: str, width: int | None) -> str:
    """A line wrapped between words; flags and paths are not broken.

    Args:
        line: the text; if it starts with a dash, the lines after the first are indented.
        width: maximum number of characters per line; None for no limit.
    """
    if width is None or len(line) <= width:
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
