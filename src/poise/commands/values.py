"""What flags may say, where no setting of a run checks it; and how wide what is said may be."""

import shutil
import sys
import textwrap

from poise.errors import ConfigError

__all__ = ["require_positive", "terminal_width", "wrapped"]


def require_positive(flag: str, value: int) -> None:
    """Raise `ConfigError` unless the value of a flag is 1 or more."""
    if value < 1:
        raise ConfigError(f"{flag} is {value}, but must be 1 or more")


def terminal_width() -> int | None:
    """Letters in a line of the terminal; None where standard output is none, or is closed."""
    if sys.stdout is None or sys.stdout.closed or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size((80, 24)).columns


def wrapped(line: str, width: int | None) -> str:
    """A line broken between words to fit; flags and folders stay in one piece.

    Args:
        line: what is said; where it begins with a dash, its other lines are indented.
        width: letters in a line, None for any number.
    """
    if width is None:
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
