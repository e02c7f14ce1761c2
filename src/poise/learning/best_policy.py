"""Candidates: when the policy is evaluated and verified, and which one was the best."""

import math
from typing import NamedTuple

from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.trajectory import Snapshot

__all__ = ["BestPolicyState", "BestPolicyTracker"]

EVALUATIONS_PER_DOUBLING = 16
"""At most about this many evaluations while the number of steps doubles."""
LONGEST_WAIT = 4
"""In sixteenths of the steps so far: each verification that fails makes the wait for the next one
longer by a sixteenth, up to this. So there are some three verifications for each doubling of the
steps, however often the target was plausible."""


class BestPolicyState(NamedTuple):
    """What the evaluations of a run have come to.

    Attributes:
        evaluated_at: steps at the last evaluation.
        interval: steps from there to the next.
        verifications: done in evaluations.
        best: the best candidate so far: verified before unverified, then by selection score, then
            by the mean of the training episodes.
        result: on it.
        evaluations: so far.
        verify_at: no verification is attempted before this many steps.
        improved_at: steps at the last evaluation that was better than all before.
        best_training_mean: of the last 100 training episodes when the best was evaluated.
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
    """Says when an evaluation is due, by steps alone, and keeps the best candidate.

    Args:
        interval: environment steps between two evaluations, at least.
        thrift: steps of training for each step of evaluation, at least; 0 stands for 1.
    """

    def __init__(self, interval: int, thrift: int = 0) -> None:
        self._least = interval
        self._thrift = max(1, thrift)
        self.state = BestPolicyState(0, interval)

    def due(self, steps: int, least: int = 0) -> bool:
        """Whether the policy after this many steps is to be evaluated.

        Args:
            steps: so far.
            least: steps since the last evaluation without which it is not.
        """
        return steps - self.state.evaluated_at >= max(self.state.interval, least)

    def unseen(self, steps: int) -> bool:
        """Whether anything was learned since the last evaluation."""
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
        """What is to be asked about a snapshot.

        Args:
            snapshot: what acts.
            steps: so far.
            training_mean: of the last 100 training episodes.
            step_limit: of its episodes.
            at_the_end: of a run, when there is nothing left to wait for.
        """
        state = self.state
        may_verify = not self.solved and (at_the_end or steps >= state.verify_at)
        return Candidate(
            snapshot,
            steps,
            state.evaluations,
            state.verifications,
            may_verify,
            training_mean,
            step_limit,
        )

    def flat_for(self, steps: int) -> int:
        """Steps since an evaluation was better than all before."""
        return steps - self.state.improved_at

    def wait_anew(self, steps: int) -> None:
        """Count the steps without a better evaluation from here."""
        self.state = self.state._replace(improved_at=steps)

    def add(self, candidate: Candidate, result: EvaluationResult) -> bool:
        """Take the result on a candidate; says whether it is the best so far."""
        before, steps = self.state, candidate.steps
        is_better = _rank(result) > _rank(before.result)
        is_best = is_better or (
            _rank(result) == _rank(before.result)
            and _number(candidate.training_mean) > _number(before.best_training_mean)
        )
        after = before._replace(
            evaluated_at=steps,
            interval=self._interval(candidate, result, self.solved or result.solved),
            evaluations=before.evaluations + 1,
            improved_at=steps if is_better else before.improved_at,
        )
        if result.verification is not None:
            attempts = before.verifications + 1
            wait = max(
                steps * min(attempts, LONGEST_WAIT) // EVALUATIONS_PER_DOUBLING,
                self._thrift * result.verification_steps // 2,
            )
            after = after._replace(verifications=attempts, verify_at=steps + wait)
        if is_best:
            after = after._replace(
                best=candidate.snapshot,
                result=result,
                best_training_mean=candidate.training_mean,
            )
        self.state = after
        return is_best

    def _interval(self, candidate: Candidate, result: EvaluationResult, solved: bool) -> int:
        """Steps to the next evaluation.

        An evaluation must not take more steps than the training in between, late ones are of less
        use than early ones, and once solved they cannot change what is best. Episodes that were
        cut, as of a policy that walks in circles, are no reason to look again so much later, unless
        steps are slow.
        """
        selection = result.selection
        cut = selection.cut * candidate.step_limit if self._thrift == 1 else 0
        useful = max(0, selection.steps - cut)
        share = candidate.steps // (1 if solved else EVALUATIONS_PER_DOUBLING)
        return max(self._least, self._thrift * useful, share)


def _rank(result: EvaluationResult | None) -> tuple[bool, bool, float]:
    if result is None:
        return (False, False, 0.0)
    return (True, result.solved, result.selection.mean)


def _number(mean: float | None) -> float:
    return -math.inf if mean is None or math.isnan(mean) else mean
