"""A worker's exception as text, to cross threads and processes."""

import signal
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

from poise.envs.observations import one_line
from poise.errors import PoiseError

__all__ = ["Failure", "describe_exit", "describe_failure", "describe_hang"]


class Failure(NamedTuple):
    """What became of a worker.

    Attributes:
        cause: in one sentence.
        traceback: of the code that is to be fixed; empty where the sentence says it all.
    """

    cause: str
    traceback: str


def describe_failure(error: BaseException) -> Failure:
    """Describe an exception; our own already say what is wrong, and hide no frame of the user's."""
    ours = isinstance(error, PoiseError)
    text = one_line(error)
    cause = text if ours else f"{type(error).__name__}: {text}"
    root = error.__cause__ if ours else error
    lines = traceback.format_exception(root) if root is not None else []
    return Failure(cause, "".join(lines).rstrip())


def describe_exit(code: int | None) -> str:
    """How a process ended, by its exit code; None if it has not ended."""
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
    """Where a worker hangs: what it says of itself, and the line that its thread has come to.

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
