"""Observers of a run, and the user's callbacks, which may raise any exception."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from poise.learning.events import Event

__all__ = ["Callback", "Callbacks", "Observer", "StopTraining"]


@runtime_checkable
class Callback(Protocol):
    """Receives the events of a run: a function of two arguments, or a callable object.

    It is called in the thread that called `poise.train`, in the order of the events, up to a tenth
    of a second after each. To end the run, raise `StopTraining`.
    """

    def __call__(self, seconds: float, event: Event, /) -> object:
        """Handle an event.

        Args:
            seconds: time since the process started.
            event: what happened.
        """


Observer = Callback
"""poise's own observers have the same signature."""


class StopTraining(Exception):  # noqa: N818 - a signal, not an error
    """Raise it in a callback to end the run: scored and saved, as if a budget had been used up.

    Callbacks are called several times a second, so training continues for a moment before it ends.
    The callback that raised is not called again. ``summary.json`` says that the run was stopped by
    ``callback``; `resume` continues it.
    """


class Callbacks:
    """Calls the user's callbacks, each until it raises.

    Their errors are not ignored: an error ends the run, and is raised again once all is saved.

    Args:
        callbacks: in the order in which they are called.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        self._callbacks = list(callbacks)
        self._failure: BaseException | None = None
        self._raised: int | None = None
        self.asks_to_stop = False
        """Whether a callback raised `StopTraining`."""

    @property
    def failure(self) -> str | None:
        """Class name of the error that a callback raised, until it is raised again; else None."""
        return None if self._failure is None else type(self._failure).__name__

    @property
    def interrupts(self) -> bool:
        """Whether that error is one that ends programs, such as KeyboardInterrupt."""
        return self._failure is not None and not isinstance(self._failure, Exception)

    def tell(self, when: float, event: Event) -> None:
        """Call all callbacks with an event; never raises, whatever they raise."""
        for callback in tuple(self._callbacks):
            try:
                callback(when, event)
            except StopTraining:
                self._callbacks.remove(callback)
                self.asks_to_stop = True
            except BaseException as error:
                # KeyboardInterrupt and SystemExit, too: they end the run once all is written.
                self._callbacks.remove(callback)
                self._failure = self._failure or error

    def raise_failure(self) -> None:
        """Raise the first error that a callback raised; only once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            # Keep its id only: a reference would form a cycle through the exception's frames.
            self._raised = id(failure)
            raise failure

    def has_raised(self, error: BaseException) -> bool:
        """Whether an exception that is being handled came from a callback."""
        return self._raised == id(error)
