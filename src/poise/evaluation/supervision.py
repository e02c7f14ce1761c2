"""The supervisor of evaluations: scores a run's policies and random play with deadlines.

An environment gives a sign of life between its steps. If there is none within the time that a
worker may be silent, the environment is interrupted, or abandoned in its thread.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from poise.config import TrainConfig
from poise.envs.deadlines import BackgroundCall
from poise.envs.env_factory import EnvFactory
from poise.envs.watchdog import Watchdog, can_interrupt
from poise.errors import PoiseError
from poise.evaluation.api import random_baseline
from poise.evaluation.evaluator import Evaluator, FinalScore
from poise.launchers.stop_signals import StopSignals
from poise.launchers.supervision import EVALUATION, Heartbeats, Supervision
from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.learning.parameter_server import EvaluationAborted, ParameterServer

__all__ = ["EvaluationSupervisor", "Heartbeat"]

PUMP_INTERVAL = 0.05
"""Seconds between two calls of the pump in an evaluation."""
BASELINE_EPISODES = 100
BASELINE_STEPS = 5_000
"""No new episode of the random baseline begins after this many steps."""

Result = TypeVar("Result")


class Heartbeat:
    """Records a sign of life between two steps of an evaluation.

    Args:
        heartbeats: where signs of life are recorded.
        signals: signals by which a user may end the run.
    """

    def __init__(self, heartbeats: Heartbeats, signals: StopSignals) -> None:
        self._heartbeats = heartbeats
        self._signals = signals
        self.pump: Callable[[], object] | None = None
        """Periodic work for the run, done by an evaluation in the main thread."""
        self._pumped = 0.0

    def beat(self) -> None:
        """Record a sign of life.

        Raises:
            EvaluationAborted: a signal asks the run to end.
        """
        self._heartbeats.beat(EVALUATION)
        now = time.monotonic()
        if self.pump is not None and now - self._pumped >= PUMP_INTERVAL:
            self._pumped = now
            self.pump()
        if self._signals.reason is not None:
            raise EvaluationAborted(self._signals.reason)


class EvaluationSupervisor:
    """Runs evaluations with a deadline, in any thread.

    Args:
        evaluator: plays the episodes.
        heartbeat: called between their steps.
        heartbeats: where signs of life are recorded.
        supervision: the run's supervision settings.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        heartbeat: Heartbeat,
        heartbeats: Heartbeats,
        supervision: Supervision,
    ) -> None:
        self._evaluator = evaluator
        self._heartbeat = heartbeat
        self._heartbeats = heartbeats
        self._supervision = supervision
        self._main = threading.get_ident()

    def open(self) -> None:
        """Make the copies to play in.

        Raises:
            EvaluationAborted: a signal arrived before they were made.
        """
        self._run_with_deadline(self._evaluator.open)

    def evaluate(self, candidate: Candidate) -> EvaluationResult:
        """Select a candidate and, if worthwhile, verify it: the server's evaluator."""
        if threading.get_ident() == self._main:
            # Nobody else would notice if the environment hung.
            return self._run_with_deadline(lambda: self._evaluator(candidate))
        return self._watched(lambda: self._evaluator(candidate))

    def final_score(self, server: ParameterServer) -> FinalScore | None:
        """Return the verified score of the best policy; None if there is no best policy.

        Raises:
            EvaluationAborted: a signal arrived before the score was known.
        """
        result, best = server.best_result, server.best
        if best is None or result is None:
            return None
        candidate = server.candidate(best, at_the_end=True)
        return self._run_with_deadline(lambda: self._evaluator.conclude(candidate, result))

    def random_baseline(
        self, env_factory: EnvFactory, config: TrainConfig, step_budget: int = BASELINE_STEPS
    ) -> Score | None:
        """Score random actions; None if a signal arrived before the score was known."""

        def play() -> Score:
            self._evaluator.make_room()
            return random_baseline(
                env_factory,
                episodes=BASELINE_EPISODES,
                seed=config.seed,
                step_limit=config.longest_evaluation_episode,
                step_budget=min(step_budget, BASELINE_STEPS),
                alive=self._heartbeat.beat,
                player=self._evaluator.player,
            )

        try:
            return self._run_with_deadline(play)
        except EvaluationAborted:
            return None

    def _watched(self, work: Callable[[], Result]) -> Result:
        """Run a function while the supervisor expects signs of life."""
        self._heartbeats.beat(EVALUATION)
        try:
            return work()
        finally:
            self._heartbeats.leave(EVALUATION)

    def _run_with_deadline(self, work: Callable[[], Result]) -> Result:
        """Run a function with a deadline: here if it can be interrupted, otherwise in a thread.

        Raises:
            DeadlineError: there was no sign of life for too long.
        """
        supervision = self._supervision
        self._heartbeats.beat(EVALUATION)
        if can_interrupt():
            return self._here(work)
        background_call = BackgroundCall(lambda: self._watched(work))
        while not background_call.is_done(supervision.interval):
            supervision.pump()
            if self._is_overdue():
                raise supervision.hung(EVALUATION, supervision.evaluating())
        outcome: Result = background_call.outcome()
        return outcome

    def _here(self, work: Callable[[], Result]) -> Result:
        supervision = self._supervision

        def look() -> PoiseError | None:
            if not self._is_overdue():
                return None
            return supervision.hung(EVALUATION, supervision.evaluating())

        self._heartbeat.pump = supervision.pump
        try:
            with Watchdog(look, supervision.interval, supervision.give_up) as watchdog:
                return watchdog.run(lambda: self._watched(work))
        finally:
            self._heartbeat.pump = None

    def _is_overdue(self) -> bool:
        return EVALUATION in self._heartbeats.overdue(self._supervision.worker_timeout)
