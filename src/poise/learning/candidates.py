"""Candidates: when the policy is evaluated, and which one was the best."""

from typing import NamedTuple

from poise.learning.verdict import Verdict
from poise.trajectory import Snapshot

__all__ = ["Candidates", "CandidatesState"]

EVALUATIONS_PER_DOUBLING = 16
"""At most about so many evaluations while the number of steps doubles."""


class CandidatesState(NamedTuple):
    """What the evaluations of a run have come to.

    Attributes:
        evaluated_at: steps at the last evaluation.
        interval: steps from there to the next.
        verifications: done in evaluations.
        best: the best candidate so far: verified before unverified, then by selection score.
        verdict: on it.
    """

    evaluated_at: int
    interval: int
    verifications: int = 0
    best: Snapshot | None = None
    verdict: Verdict | None = None


class Candidates:
    """Says when an evaluation is due, by steps alone, and keeps the best candidate.

    Args:
        interval: environment steps between two evaluations, at least.
        thrift: steps of training for each step of evaluation, at least; 0 stands for 1.
    """

    def __init__(self, interval: int, thrift: int = 0) -> None:
        self._least = interval
        self._thrift = max(1, thrift)
        self.state = CandidatesState(0, interval)

    def due(self, steps: int, least: int = 0) -> bool:
        """Whether the policy after so many steps is to be evaluated.

        Args:
            steps: so far.
            least: steps since the last evaluation without which it is not.
        """
        return steps - self.state.evaluated_at >= max(self.state.interval, least)

    def unseen(self, steps: int) -> bool:
        """Whether anything was learned since the last evaluation."""
        return steps > self.state.evaluated_at

    def add(self, candidate: Snapshot, steps: int, verdict: Verdict) -> bool:
        """Take the verdict on a candidate; says whether it is the best so far."""
        before = self.state
        is_best = _rank(verdict) > _rank(before.verdict)
        best, best_verdict = (candidate, verdict) if is_best else (before.best, before.verdict)
        solved = best_verdict is not None and best_verdict.solved
        # An evaluation must not take more steps than the training in between, late ones are of
        # less use than early ones, and once solved they cannot change what is best.
        interval = max(
            self._least,
            self._thrift * verdict.selection.steps,
            steps // (1 if solved else EVALUATIONS_PER_DOUBLING),
        )
        verifications = before.verifications + (verdict.verification is not None)
        self.state = CandidatesState(steps, interval, verifications, best, best_verdict)
        return is_best


def _rank(verdict: Verdict | None) -> tuple[bool, bool, float]:
    if verdict is None:
        return (False, False, 0.0)
    return (True, verdict.solved, verdict.selection.mean)
