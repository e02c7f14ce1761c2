"""Patience with an environment outside the workers: in evaluations and the random baseline.

An environment may hang there, too. It gives signs of life between its steps; when there is none for
as long as a worker may be silent, it is left behind in its thread.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from poise.launchers.supervision import EVALUATION, Heartbeats, Supervision
from poise.learning.owner import EvaluationAborted
from poise.runs.signals import StopSignals

__all__ = ["Patience"]

Result = TypeVar("Result")


class Patience:
    """Watches over what plays episodes.

    Args:
        heartbeats: where signs of life are noted.
        signals: why to give up an evaluation.
    """

    def __init__(self, heartbeats: Heartbeats, signals: StopSignals) -> None:
        self._heartbeats = heartbeats
        self._signals = signals

    def alive(self) -> None:
        """Called between two steps of an evaluation.

        Raises:
            EvaluationAborted: the run must stop.
        """
        self._heartbeats.beat(EVALUATION)
        if self._signals.reason is not None:
            raise EvaluationAborted(self._signals.reason)

    def watched(self, work: Callable[[], Result]) -> Result:
        """Do something during which whoever supervises expects signs of life."""
        self._heartbeats.beat(EVALUATION)
        try:
            return work()
        finally:
            self._heartbeats.leave(EVALUATION)

    def in_time(self, work: Callable[[], Result], supervision: Supervision) -> Result:
        """Do it in a thread that can be left behind, and supervise it meanwhile.

        Raises:
            DeadlineError: there was no sign of life for too long.
        """
        outcome: list[Result] = []
        failure: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(self.watched(work))
            except BaseException as error:
                failure.append(error)

        self._heartbeats.beat(EVALUATION)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(supervision.interval)
            supervision.pump()
            if EVALUATION in self._heartbeats.overdue(supervision.worker_timeout):
                raise supervision.hung(EVALUATION, supervision.evaluating())
        if failure:
            raise failure[0]
        return outcome[0]
