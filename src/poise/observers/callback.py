"""The user's subscriber, held at arm's length: what it raises keeps no run from being saved."""

from collections.abc import Callable

from poise.learning.events import Event

__all__ = ["Callback", "StopTraining", "Subscriber"]

Subscriber = Callable[[float, Event], object]
"""Called in the thread that trains was called in with each event and its time, in seconds."""


class StopTraining(Exception):  # noqa: N818 - a signal, not an error
    """Raise it in a subscriber to end the run: scored and saved, as if a budget had been used up.

    Events are told several times a second, so training goes on for a moment before it ends. The
    subscriber that raised is told nothing more. ``summary.json`` says that the run was stopped by
    ``callback``; `resume` goes on with it.
    """


class Callback:
    """Calls a subscriber until it raises, and keeps what it raised for whoever runs the training.

    Args:
        subscriber: of the user's; by default there is none.
    """

    def __init__(self, subscriber: Subscriber | None = None) -> None:
        self._subscriber = subscriber
        self._failure: BaseException | None = None
        self._raised: int | None = None
        self.asks_to_stop = False
        """Whether it raised `StopTraining`."""

    @property
    def failure(self) -> str | None:
        """The class of what it raised, while nobody has raised that again; None otherwise."""
        return None if self._failure is None else type(self._failure).__name__

    @property
    def interrupts(self) -> bool:
        """Whether that is one that ends programs, such as KeyboardInterrupt."""
        return self._failure is not None and not isinstance(self._failure, Exception)

    def follow(self, when: float, event: Event) -> None:
        """Tell it; raises nothing, whatever it raises."""
        if self._subscriber is None:
            return
        try:
            self._subscriber(when, event)
        except StopTraining:
            self._subscriber, self.asks_to_stop = None, True
        except BaseException as error:
            # KeyboardInterrupt and SystemExit, too: they end the run once everything is written.
            self._subscriber, self._failure = None, error

    def raise_failure(self) -> None:
        """Raise what it raised, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            # By its identity: a reference would lead from the exception's frames back to it.
            self._raised = id(failure)
            raise failure

    def has_raised(self, error: BaseException) -> bool:
        """Whether an exception that is being handled is the subscriber's own."""
        return self._raised == id(error)
