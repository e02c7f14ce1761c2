"""What flags may say, where no setting of a run checks it; and how wide what is said may be."""

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
    """Letters in a line of the terminal; None where a stream is none, or is closed.

    Args:
        stream: standard output, if it is not given.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None or stream.closed or not stream.isatty():
        return None
    return shutil.get_terminal_size((80, 24)).columns


def wrapped(line: str, width: int | None) -> str:
    """A line broken between words to fit; flags and folders stay in one piece.

    Args:
        line: what is said; where it begins with a dash, its other lines are indented.
        width: letters in a line, None for any number.
    """
    if width is None or len(line) <= width:
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
