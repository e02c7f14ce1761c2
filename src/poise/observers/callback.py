"""Who observes a run; and the user's callbacks, which may raise what they like."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from poise.learning.events import Event

__all__ = ["Callback", "Callbacks", "Observer", "StopTraining"]


@runtime_checkable
class Callback(Protocol):
    """Told what happens in a run: a function of two arguments, or an object that can be called.

    It is called in the thread that `poise.train` was called in, in the order in which things
    happened, up to a tenth of a second later. To end the run, raise `StopTraining`.
    """

    def __call__(self, seconds: float, event: Event, /) -> object:
        """Look at an event.

        Args:
            seconds: since the process started.
            event: what happened.
        """


Observer = Callback
"""What poise itself observes a run with."""


class StopTraining(Exception):  # noqa: N818 - a signal, not an error
    """Raise it in a callback to end the run: scored and saved, as if a budget had been used up.

    Events are told several times a second, so training goes on for a moment before it ends. The
    callback that raised is told nothing more. ``summary.json`` says that the run was stopped by
    ``callback``; `resume` goes on with it.
    """


class Callbacks:
    """Tells the user's callbacks, each until it raises.

    An error of theirs is not passed over: it ends the run, and is raised once all is saved.

    Args:
        callbacks: in the order in which they are told.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        self._callbacks = list(callbacks)
        self._failure: BaseException | None = None
        self._raised: int | None = None
        self.asks_to_stop = False
        """Whether one raised `StopTraining`."""

    @property
    def failure(self) -> str | None:
        """The class of what one raised, while nobody has raised that again; None otherwise."""
        return None if self._failure is None else type(self._failure).__name__

    @property
    def interrupts(self) -> bool:
        """Whether that is one that ends programs, such as KeyboardInterrupt."""
        return self._failure is not None and not isinstance(self._failure, Exception)

    def tell(self, when: float, event: Event) -> None:
        """Tell an event; raises nothing, whatever they raise."""
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
        """Raise what one raised first, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            # By its identity: a reference would lead from the exception's frames back to it.
            self._raised = id(failure)
            raise failure

    def has_raised(self, error: BaseException) -> bool:
        """Whether an exception that is being handled is one of theirs."""
        return self._raised == id(error)
