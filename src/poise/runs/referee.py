"""The referee: scores of a run's policies and of random play, from environments that may hang.

An environment gives signs of life between its steps; when there is none for as long as a worker may
be silent, it is interrupted, or left behind in its thread.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from poise.config import TrainConfig
from poise.errors import PoiseError
from poise.launchers.supervision import EVALUATION, Heartbeats, Supervision
from poise.learning.owner import EvaluationAborted, Owner
from poise.learning.verdict import Candidate, Score, Verdict
from poise.runs.api import random_baseline
from poise.runs.judge import FinalScore, Judge
from poise.runs.signals import StopSignals
from poise.world.deadlines import Errand
from poise.world.source import EnvironmentSource
from poise.world.watchdog import Watchdog, can_interrupt

__all__ = ["Pulse", "Referee"]

PUMP_INTERVAL = 0.05
"""Seconds between two calls of the pump in an evaluation."""
BASELINE_EPISODES = 100
BASELINE_STEPS = 5_000
"""No new episode of the random baseline begins after so many steps."""

Result = TypeVar("Result")


class Pulse:
    """Felt between two steps of an evaluation.

    Args:
        heartbeats: where signs of life are noted.
        signals: what a user may end the run with.
    """

    def __init__(self, heartbeats: Heartbeats, signals: StopSignals) -> None:
        self._heartbeats = heartbeats
        self._signals = signals
        self.pump: Callable[[], object] | None = None
        """What whoever evaluates in the main thread does for the run, now and then."""
        self._pumped = 0.0

    def beat(self) -> None:
        """The evaluation goes on.

        Raises:
            EvaluationAborted: it must not, because of a signal.
        """
        self._heartbeats.beat(EVALUATION)
        now = time.monotonic()
        if self.pump is not None and now - self._pumped >= PUMP_INTERVAL:
            self._pumped = now
            self.pump()
        if self._signals.reason is not None:
            raise EvaluationAborted(self._signals.reason)


class Referee:
    """Evaluates before its deadline, whoever asks.

    Args:
        judge: plays the episodes.
        pulse: felt between them.
        heartbeats: where signs of life are noted.
        supervision: of the run.
    """

    def __init__(
        self, judge: Judge, pulse: Pulse, heartbeats: Heartbeats, supervision: Supervision
    ) -> None:
        self._judge = judge
        self._pulse = pulse
        self._heartbeats = heartbeats
        self._supervision = supervision
        self._main = threading.get_ident()

    def evaluate(self, candidate: Candidate) -> Verdict:
        """Select and, if it is worth it, verify: the owner's judge."""
        if threading.get_ident() == self._main:
            # Nobody else would notice if the environment hangs.
            return self._in_time(lambda: self._judge(candidate))
        return self._watched(lambda: self._judge(candidate))

    def final_score(self, owner: Owner) -> FinalScore | None:
        """The verified score of the best policy, None if there is none.

        Raises:
            EvaluationAborted: a signal came before it was there.
        """
        verdict, best = owner.best_verdict, owner.best
        if best is None or verdict is None:
            return None
        candidate = owner.candidate(best, at_the_end=True)
        return self._in_time(lambda: self._judge.conclude(candidate, verdict))

    def random_baseline(
        self, source: EnvironmentSource, config: TrainConfig, step_budget: int = BASELINE_STEPS
    ) -> Score | None:
        """What random actions reach, None if a signal came before it was there."""

        def play() -> Score:
            self._judge.make_room()
            return random_baseline(
                source,
                episodes=BASELINE_EPISODES,
                seed=config.seed,
                step_limit=config.longest_evaluation_episode,
                step_budget=min(step_budget, BASELINE_STEPS),
                alive=self._pulse.beat,
                player=self._judge.player,
            )

        try:
            return self._in_time(play)
        except EvaluationAborted:
            return None

    def _watched(self, work: Callable[[], Result]) -> Result:
        """Do something during which whoever supervises expects signs of life."""
        self._heartbeats.beat(EVALUATION)
        try:
            return work()
        finally:
            self._heartbeats.leave(EVALUATION)

    def _in_time(self, work: Callable[[], Result]) -> Result:
        """Do it with a deadline: here if it can be interrupted, otherwise in a thread.

        Raises:
            DeadlineError: there was no sign of life for too long.
        """
        supervision = self._supervision
        self._heartbeats.beat(EVALUATION)
        if can_interrupt():
            return self._here(work)
        errand = Errand(lambda: self._watched(work))
        while not errand.is_done(supervision.interval):
            supervision.pump()
            if self._is_overdue():
                raise supervision.hung(EVALUATION, supervision.evaluating())
        outcome: Result = errand.outcome()
        return outcome

    def _here(self, work: Callable[[], Result]) -> Result:
        supervision = self._supervision

        def look() -> PoiseError | None:
            if not self._is_overdue():
                return None
            return supervision.hung(EVALUATION, supervision.evaluating())

        self._pulse.pump = supervision.pump
        try:
            with Watchdog(look, supervision.interval, supervision.give_up) as watchdog:
                return watchdog.run(lambda: self._watched(work))
        finally:
            self._pulse.pump = None

    def _is_overdue(self) -> bool:
        return EVALUATION in self._heartbeats.overdue(self._supervision.worker_timeout)
