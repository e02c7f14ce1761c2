"""The restart policy: which of a run's workers are started again, and how often.

The policy knows no processes and no clocks: it is told what happened to a worker, and decides.
"""

import enum

__all__ = ["Decision", "RestartPolicy"]


class Decision(enum.Enum):
    """What to do after a worker has failed or was lost."""

    RESTART = enum.auto()
    """Start the worker's next generation."""
    GO_ON = enum.auto()
    """Continue the run without the worker."""
    FAIL = enum.auto()
    """End the run with the worker's error."""


class RestartPolicy:
    """Decides what to do after a worker has failed or was lost, and counts restarts.

    A worker is *lost* if its process died, hung, or sent a damaged message. That is no fault of its
    code, so another attempt is worthwhile. A worker that *raised* an exception would probably raise
    it again, so it is restarted only if the user wants it; one that raised before it was ready is
    never restarted.

    Args:
        max_restarts: maximum number of restarts in the whole run.
        restart_on_error: also restart workers that raised an exception.
        restarts: number of restarts that the run has already had.
    """

    def __init__(
        self, max_restarts: int = 0, restart_on_error: bool = False, restarts: int = 0
    ) -> None:
        self._max_restarts = max_restarts
        self._restart_on_error = restart_on_error
        self.restarts = restarts
        """Restarts of all workers so far."""

    def after_loss(self, *, is_last: bool) -> Decision:
        """Decide what to do about a lost worker.

        Args:
            is_last: no other worker is left to continue with.
        """
        if self._may_restart():
            return Decision.RESTART
        return Decision.FAIL if is_last else Decision.GO_ON

    def after_error(self, *, was_ready: bool) -> Decision:
        """Decide what to do about a worker that raised an exception.

        Args:
            was_ready: it had been made, and its environments had been reset.
        """
        if self._restart_on_error and was_ready and self._may_restart():
            return Decision.RESTART
        return Decision.FAIL

    def _may_restart(self) -> bool:
        if self.restarts >= self._max_restarts:
            return False
        self.restarts += 1
        return True
