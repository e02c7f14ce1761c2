"""Start of a new or resumed run: common checks of arguments, and first files."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from poise.errors import ConfigError, RunWriteError
from poise.observers.callback import Callback, Callbacks
from poise.observers.tensorboard import TensorBoard
from poise.storage.files import write_json
from poise.validation import shown

__all__ = ["checked_callbacks", "opened_tensorboard", "write_config"]


def checked_callbacks(callbacks: Sequence[Callback]) -> Callbacks:
    """Check the user's callbacks and wrap them.

    Raises:
        ConfigError: one of them cannot be called.
    """
    if callable(callbacks) or not isinstance(callbacks, Sequence):
        raise ConfigError(
            f"callbacks is {shown(callbacks)}, but must be a list, as in callbacks=[follow]"
        )
    for callback in callbacks:
        if not callable(callback):
            raise ConfigError(
                f"a callback is {shown(callback)}, but must be a function of two arguments: the "
                "run's clock, in seconds, and an event"
            )
    return Callbacks(callbacks)


@contextlib.contextmanager
def opened_tensorboard(
    folder: Path, wanted: bool, every: int, purge_step: int | None = None
) -> Iterator[list[TensorBoard]]:
    """Yield a list of observers that write TensorBoard event files: none, or one.

    Args:
        folder: the run's folder; if it already has event files, they are continued in any case.
        wanted: whether the user asked for event files.
        every: updates between two rows about updates.
        purge_step: TensorBoard hides what older event files hold from this step on.
    """
    events = folder / "tensorboard"
    if not wanted and not events.is_dir():
        yield []
        return
    with TensorBoard(events, every, purge_step) as board:
        yield [board]


def write_config(folder: Path, content: dict[str, Any]) -> None:
    """Write ``config.json``.

    Raises:
        RunWriteError: it cannot be written.
    """
    path = folder / "config.json"
    try:
        write_json(path, content)
    except OSError as error:
        raise RunWriteError(f"{path} cannot be written: {error.strerror or error}") from error
