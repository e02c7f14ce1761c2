"""A worker's exception as text, to cross threads and processes."""

import traceback
from typing import NamedTuple

from poise.errors import PoiseError

__all__ = ["Failure", "describe_failure"]


class Failure(NamedTuple):
    """What became of a worker.

    Attributes:
        cause: in one sentence.
        traceback: of the code that is to be mended; empty where the sentence says it all.
    """

    cause: str
    traceback: str


def describe_failure(error: BaseException) -> Failure:
    """Describe an exception; our own already say what is wrong, and hide no frame of the user's."""
    ours = isinstance(error, PoiseError)
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its message cannot be had)"
    cause = text if ours else f"{type(error).__name__}: {text}"
    root = error.__cause__ if ours else error
    lines = traceback.format_exception(root) if root is not None else []
    return Failure(cause, "".join(lines).rstrip())
