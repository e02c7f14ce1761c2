"""The best policy: when to evaluate and verify the policy, and which candidate was the best."""

import math
from typing import NamedTuple

from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.trajectory import Snapshot

__all__ = ["BestPolicyState", "BestPolicyTracker"]

EVALUATIONS_PER_DOUBLING = 16
"""At most about this many evaluations while the number of steps doubles."""
LONGEST_WAIT = 4
"""Longest wait after a failed verification, in sixteenths of the steps so far: each failure makes
the wait longer by one sixteenth, up to this. There are thus about three verifications while the
number of steps doubles, however often the target seemed plausible."""


class BestPolicyState(NamedTuple):
    """The results of a run's evaluations so far; for checkpoints.

    Attributes:
        evaluated_at: steps at the last evaluation.
        interval: steps from the last evaluation to the next one.
        verifications: number of verifications so far.
        best: the best candidate so far: one that solved the environment before one that did not;
            then by the verified score if both did, by the selection score if neither did, and then
            by the mean of the training episodes.
        result: the best candidate's evaluation.
        evaluations: number of evaluations so far.
        verify_at: no verification is attempted before this many steps.
        improved_at: steps at the last evaluation that was better than all before.
        best_training_mean: mean return of the last 100 training episodes when the best candidate
            was evaluated.
    """

    evaluated_at: int
    interval: int
    verifications: int = 0
    best: Snapshot | None = None
    result: EvaluationResult | None = None
    evaluations: int = 0
    verify_at: int = 0
    improved_at: int = 0
    best_training_mean: float | None = None


class BestPolicyTracker:
    """Decides when an evaluation is due, from step counts alone, and keeps the best candidate.

    Args:
        interval: minimum environment steps between two evaluations.
        training_ratio: minimum training steps for each step of evaluation; 0 means 1.
        selection_ratio: the same for selection alone.
        is_free: whether evaluations need not wait for as many training steps as they take.
        goes_on: after the environment is solved, candidates that seem better than the best one are
            verified as well; otherwise, no later candidate can replace it.
        selection_episodes: episodes of a usual selection. If a candidate played more, because it
            seemed to reach the target, the further ones count once only, and not as often as
            ``selection_ratio`` says.
    """

    def __init__(
        self,
        interval: int,
        training_ratio: int = 0,
        selection_ratio: int = 0,
        *,
        is_free: bool = False,
        goes_on: bool = False,
        selection_episodes: int | None = None,
    ) -> None:
        self._least = interval
        self._selection_episodes = selection_episodes
        self._training_ratio = max(1, training_ratio)
        self._selection_ratio = max(self._training_ratio, selection_ratio)
        self._is_free = is_free
        self._goes_on = goes_on
        self.state = BestPolicyState(0, interval)

    def due(self, steps: int, least: int = 0, *, is_promising: bool = False) -> bool:
        """Return whether an evaluation is due.

        Args:
            steps: environment steps so far.
            least: further minimum of steps since the last evaluation.
            is_promising: training episodes reach the target. Then selection need not be sparing, if
                steps are fast and a verification may follow.
        """
        interval = self.state.interval
        if is_promising and steps >= self.state.verify_at and not self.solved:
            interval = max(self._least, interval * self._training_ratio // self._selection_ratio)
        return steps - self.state.evaluated_at >= max(interval, least)

    def unseen(self, steps: int) -> bool:
        """Return whether there were training steps since the last evaluation."""
        return steps > self.state.evaluated_at

    @property
    def solved(self) -> bool:
        """Whether a verification has reached the target."""
        return self.state.result is not None and self.state.result.solved

    def candidate(
        self,
        snapshot: Snapshot,
        steps: int,
        training_mean: float | None,
        step_limit: int,
        *,
        at_the_end: bool = False,
    ) -> Candidate:
        """Make a candidate for evaluation from a snapshot.

        Args:
            snapshot: the parameters to evaluate.
            steps: environment steps so far.
            training_mean: mean return of the last 100 training episodes.
            step_limit: number of steps after which an evaluation episode is cut.
            at_the_end: whether the run is ending, so that a verification need not wait.
        """
        state = self.state
        is_time = at_the_end or steps >= state.verify_at
        return Candidate(
            snapshot,
            steps,
            state.evaluations,
            state.verifications,
            is_time and (self._goes_on or not self.solved),
            training_mean,
            step_limit,
            self._to_exceed,
        )

    @property
    def _to_exceed(self) -> float | None:
        """The verified score of a policy that has solved, which later ones may still replace."""
        result = self.state.result
        if not self._goes_on or result is None or not result.solved or result.reported is None:
            return None
        return result.reported.mean

    def flat_for(self, steps: int) -> int:
        """Return the number of steps since the last evaluation that was better than all before."""
        return steps - self.state.improved_at

    def wait_anew(self, steps: int) -> None:
        """Restart the count of steps without a better evaluation."""
        self.state = self.state._replace(improved_at=steps)

    def add(self, candidate: Candidate, result: EvaluationResult) -> bool:
        """Record a candidate's result; returns whether the candidate is the best so far."""
        before, steps = self.state, candidate.steps
        is_better = _rank(result) > _rank(before.result)
        is_best = is_better or (
            _rank(result) == _rank(before.result)
            and _number(candidate.training_mean) > _number(before.best_training_mean)
        )
        after = before._replace(
            evaluated_at=steps,
            interval=self._interval(candidate, result),
            evaluations=before.evaluations + 1,
            improved_at=steps if is_better else before.improved_at,
        )
        if result.verification is not None:
            attempts = before.verifications + 1
            taken = 0 if self._is_free else result.verification_steps
            wait = max(
                steps * min(attempts, LONGEST_WAIT) // EVALUATIONS_PER_DOUBLING,
                self._training_ratio * taken // 2,
            )
            after = after._replace(verifications=attempts, verify_at=steps + wait)
        elif self._played_more(result) and not self._is_free:
            # It failed in them: the next one that seems good enough comes after as much training.
            wait = self._training_ratio * result.selection.steps
            after = after._replace(verify_at=max(before.verify_at, steps + wait))
        if is_best:
            after = after._replace(
                best=candidate.snapshot,
                result=result,
                best_training_mean=candidate.training_mean,
            )
        self.state = after
        return is_best

    def _interval(self, candidate: Candidate, result: EvaluationResult) -> int:
        """Return the number of steps to the next evaluation.

        An evaluation must not take more steps than the training between two evaluations, unless
        they are free. Late evaluations are less useful than early ones, and least if they cannot
        change the best policy. Steps of episodes that were cut (for example because the policy
        walks in circles) do not delay the next evaluation, unless steps are slow.
        """
        selection = result.selection
        cut = selection.cut * candidate.step_limit if self._training_ratio == 1 else 0
        useful = 0 if self._is_free else max(0, selection.steps - cut)
        usual = useful
        if self._played_more(result):
            usual = useful * (self._selection_episodes or 0) // selection.episodes
        is_decided = not self._goes_on and (self.solved or result.solved)
        share = candidate.steps // (1 if is_decided else EVALUATIONS_PER_DOUBLING)
        ratios = self._selection_ratio * usual, self._training_ratio * useful
        return max(self._least, *ratios, share)

    def _played_more(self, result: EvaluationResult) -> bool:
        """Return whether a candidate played more episodes than a selection usually has."""
        usual = self._selection_episodes
        return usual is not None and result.selection.episodes > usual


def _rank(result: EvaluationResult | None) -> tuple[bool, bool, float]:
    if result is None:
        return (False, False, 0.0)
    score = result.reported if result.solved else None
    return (True, result.solved, (score or result.selection).mean)


def _number(mean: float | None) -> float:
    return -math.inf if mean is None or math.isnan(mean) else mean
