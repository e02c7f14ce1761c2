"""Descriptions of a worker's failure as text, to be sent between threads and processes."""

import signal
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

from poise.envs.observations import one_line
from poise.errors import PoiseError

__all__ = ["Failure", "describe_exit", "describe_failure", "describe_hang"]


class Failure(NamedTuple):
    """A description of an exception in a worker.

    Attributes:
        cause: one sentence.
        traceback: of the code to fix; empty if the sentence is enough.
    """

    cause: str
    traceback: str


def describe_failure(error: BaseException) -> Failure:
    """Describe an exception; poise's own errors need no traceback, only that of their cause."""
    ours = isinstance(error, PoiseError)
    text = one_line(error)
    cause = text if ours else f"{type(error).__name__}: {text}"
    root = error.__cause__ if ours else error
    lines = traceback.format_exception(root) if root is not None else []
    return Failure(cause, "".join(lines).rstrip())


def describe_exit(code: int | None) -> str:
    """Describe how a process ended, given its exit code; None if it has not ended."""
    if code is None:
        return "closed its pipe"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        # Real-time signals have no names.
        return f"was killed by signal {-code}"


def describe_hang(describe_activity: str, thread: int | None) -> str:
    """Describe where a worker hangs: its own description, and the current line of its thread.

    Args:
        activity: which environment, with which seed and last action; empty if unknown.
        thread: identifier of its thread.
    """
    words = [describe_activity] if describe_activity else []
    frame = None if thread is None else sys._current_frames().get(thread)
    if frame is not None:
        code = frame.f_code
        name = Path(code.co_filename).name
        words.append(f"at {name}, line {frame.f_lineno}, in {code.co_name}")
    return "; ".join(words)
