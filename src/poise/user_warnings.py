"""Warnings that name the user's own line of code instead of a line inside poise."""

import contextlib
import sys
import warnings
from pathlib import Path
from types import FrameType

from poise.argument_names import spelled

__all__ = ["warn_at", "warn_caller"]

_OURS = str(Path(__file__).parent)


def warn_caller(message: str) -> None:
    """Warn, naming the line of the user's code that called poise.

    (Python's ``skip_file_prefixes`` does the same from version 3.12 on.)
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_passed_over(frame):
        frame = frame.f_back
    warn_at(frame, message)


def warn_at(frame: FrameType, message: str) -> None:
    """Warn, naming the current line of a frame."""
    known = frame.f_globals
    warnings.warn_explicit(
        spelled(message),
        RuntimeWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=known.get("__name__") or "<unknown>",
        registry=known.setdefault("__warningregistry__", {}),
    )


def _is_passed_over(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_OURS) or file == contextlib.__file__
