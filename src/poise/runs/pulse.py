"""The pulse of a run that evaluates: it is alive, unless it was asked to stop."""

import time

from poise.launchers.supervision import Heartbeats
from poise.learning.owner import EvaluationAborted
from poise.runs.signals import StopSignals

__all__ = ["Pulse"]


class Pulse:
    """Felt between two steps of an evaluation.

    Args:
        heartbeats: of the workers, which wait for the evaluation and are silent meanwhile.
        signals: what a user may end the run with.
    """

    def __init__(self, heartbeats: Heartbeats, signals: StopSignals) -> None:
        self._heartbeats = heartbeats
        self._signals = signals
        self.last = 0.0
        """When it was last felt, by the monotonic clock."""

    def beat(self) -> None:
        """The evaluation goes on.

        Raises:
            EvaluationAborted: it must not, because of a signal.
        """
        self._heartbeats.beat_all()
        self.last = time.monotonic()
        if self._signals.reason is not None:
            raise EvaluationAborted(self._signals.reason)
