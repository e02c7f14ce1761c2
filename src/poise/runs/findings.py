"""What a run that does not solve says at its end: what was seen, and what to try next.

Every sentence comes from figures that the run measured, and gives them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from poise.runs.history import History
from poise.runs.judge import FinalScore

__all__ = ["Facts", "find"]

RANDOM_SHARE = 0.1
"""Of the way from random play to the target: what stays below counts as random play."""
GONE = 0.05
"""An entropy below this share of the first one is gone."""
EARLY = 0.5
"""Share of a run's steps before which that is early."""
FAR = 0.25
"""Share of the range of returns by which one score is far below another."""
RISING = 0.05
"""Share of all that was gained, gained in the last quarter: still rising."""
MOST = 0.5
"""Share of the wall time."""


class Facts(NamedTuple):
    """What was measured.

    Attributes:
        history: the course of the run.
        steps: environment steps.
        baseline: the mean return of random actions.
        target: what solves the environment.
        used_up: the run ended with its budget.
        evaluation_seconds: of selection, verification and baseline.
        wall_seconds: of the run.
        final: the score of the best policy, None if there was no time for it.
    """

    history: History
    steps: int
    baseline: float | None
    target: float | None
    used_up: bool
    evaluation_seconds: float
    wall_seconds: float
    final: FinalScore | None = None


def find(facts: Facts) -> list[str]:
    """One sentence or two for each thing that was seen."""
    return [
        text
        for look in (_level, _entropy, _greedy, _collapse, _value, _rising, _evaluations)
        for text in look(facts)
    ]


def _range(facts: Facts) -> float:
    """How far apart returns are in this environment, as far as is known."""
    low, high = facts.history.returns or (0.0, 0.0)
    return high - low


def _level(facts: Facts) -> Iterator[str]:
    history, baseline = facts.history, facts.baseline
    if history.returns is None:
        yield (
            "No training episode ended within the run: give it more steps, or the environment a "
            "time limit (max_episode_steps)."
        )
        return
    low, high = history.returns
    if low == high:
        yield (
            f"Every training episode returned {low:.5g}: no action was ever seen to make a "
            "difference. Reward progress towards the goal, or explore more: "
            "--entropy-coefficient 0.01, more --envs-per-worker."
        )
        return
    best = max(point.value for point in history.average.points)
    if baseline is None:
        return
    way = high - baseline if facts.target is None else facts.target - baseline
    if way > 0 and best - baseline < RANDOM_SHARE * way:
        yield (
            f"Training stayed at the level of random actions: its average reached {best:.5g}, "
            f"random play {baseline:.5g}. poise doctor looks for what hinders learning; try "
            "another --learning-rate, and --normalize-observations on."
        )


def _entropy(facts: Facts) -> Iterator[str]:
    points = facts.history.entropy.points
    if not points or points[0].value <= 0.0:
        return
    gone = next((one for one in points if one.value < GONE * points[0].value), None)
    if (
        gone is not None
        and gone.steps < EARLY * facts.steps
        and points[-1].value < GONE * (points[0].value)
    ):
        yield (
            f"The policy stopped exploring: its entropy fell from {points[0].value:.3g} to "
            f"{points[-1].value:.2g}, and was nearly gone after {gone.steps:,} steps. Try "
            "--entropy-coefficient 0.01 or a lower --learning-rate."
        )


def _greedy(facts: Facts) -> Iterator[str]:
    history, final = facts.history, facts.final
    if final is not None and not final.verified.greedy:
        return
    if final is not None and final.sampled is not None:
        sampled, verified = final.sampled, final.verified
        if sampled.low > verified.high:
            yield (
                f"Sampled actions are better than greedy ones: {sampled.mean:.5g} against "
                f"{verified.mean:.5g}, the best policy on {sampled.episodes} fresh episodes each. "
                "Train with --policy sampled, which then is what is scored and saved; poise "
                "evaluate and poise play take it, too."
            )
        return
    if not history.greedy.points or history.latest is None:
        return
    greedy = history.greedy.points[-1].value
    if history.latest - greedy > FAR * _range(facts) > 0.0:
        yield (
            f"Greedy actions are far worse than sampled ones: {greedy:.5g} in the last evaluation, "
            f"{history.latest:.5g} in training. poise evaluate --policy sampled scores the sampled "
            "policy; train with --policy sampled to have it selected and saved."
        )


def _collapse(facts: Facts) -> Iterator[str]:
    points = facts.history.greedy.points
    if len(points) < 2:
        return
    best = max(points, key=lambda one: one.value)
    if best.value - points[-1].value > FAR * _range(facts) > 0.0:
        yield (
            f"The evaluated policy was best after {best.steps:,} steps, with {best.value:.5g}, and "
            f"fell to {points[-1].value:.5g} since. The best one was kept (best.safetensors). Try "
            "a lower --learning-rate, or --learning-rate-schedule linear."
        )


def _value(facts: Facts) -> Iterator[str]:
    course = facts.history.value_loss
    first, last = course.mean(0.0, 0.25), course.mean(0.75, 1.0)
    if first is not None and last is not None and last > 2.0 * first > 0.0:
        yield (
            f"The critic did not come to predict returns: its loss went from {first:.3g} in the "
            f"first quarter to {last:.3g} in the last. Where rewards are large, try "
            "--reward-scale; or a lower --learning-rate."
        )


def _rising(facts: Facts) -> Iterator[str]:
    points = facts.history.average.points
    if not facts.used_up or len(points) < 8:
        return
    values = [point.value for point in points]
    gain = max(values) - min(values)
    recent = values[-1] - values[3 * len(values) // 4]
    if gain > 0.0 and recent > RISING * gain and max(values) - values[-1] < RISING * gain:
        yield (
            f"Returns were still rising when the budget ended: the average went from "
            f"{values[3 * len(values) // 4]:.5g} to {values[-1]:.5g} in the last quarter. Go on: "
            f"poise resume with --max-steps {2 * facts.steps}."
        )


def _evaluations(facts: Facts) -> Iterator[str]:
    share = facts.evaluation_seconds / facts.wall_seconds if facts.wall_seconds else 0.0
    if share > MOST:
        yield (
            f"Evaluations took {share:.0%} of the time: try a longer --evaluation-interval, or "
            "fewer --selection-episodes and --verification-episodes."
        )
