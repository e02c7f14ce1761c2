"""The restart policy: which of a run's workers are started again, and how often.

It knows no processes and no clocks: it is told what happened to a worker, and decides.
"""

import enum

__all__ = ["Decision", "RestartPolicy"]


class Decision(enum.Enum):
    """What follows when a worker is gone."""

    RESTART = enum.auto()
    """Its next generation is started."""
    GO_ON = enum.auto()
    """The run goes on without it."""
    FAIL = enum.auto()
    """The run ends with its error."""


class RestartPolicy:
    """Decides what follows when a worker is gone, and counts restarts.

    A worker is *lost* when its process died, hung, or sent what is not whole: through no fault of
    its code, so that another attempt is worth while. One that *raised* would raise again, unless
    the user says otherwise; one that raised before it was ready always would.

    Args:
        max_restarts: restarts in the whole run, at most.
        restart_on_error: start a worker again that raised, too.
        restarts: that the run has had already.
    """

    def __init__(
        self, max_restarts: int = 0, restart_on_error: bool = False, restarts: int = 0
    ) -> None:
        self._max_restarts = max_restarts
        self._restart_on_error = restart_on_error
        self.restarts = restarts
        """Of all workers, so far."""

    def after_loss(self, *, is_last: bool) -> Decision:
        """A worker was lost.

        Args:
            is_last: no other one is there to go on with.
        """
        if self._may_restart():
            return Decision.RESTART
        return Decision.FAIL if is_last else Decision.GO_ON

    def after_error(self, *, was_ready: bool) -> Decision:
        """A worker raised.

        Args:
            was_ready: it had been made, and its environments reset.
        """
        if self._restart_on_error and was_ready and self._may_restart():
            return Decision.RESTART
        return Decision.FAIL

    def _may_restart(self) -> bool:
        if self.restarts >= self._max_restarts:
            return False
        self.restarts += 1
        return True
