"""Findings of a run that did not solve its environment: what was observed, and what to try next.

Every sentence is derived from values that the run measured, and states them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from poise.evaluation.evaluator import FinalScore
from poise.number_format import number, numbers, with_error
from poise.observers.history import History

__all__ = ["RunFacts", "find"]

RANDOM_SHARE = 0.1
"""Share of the distance from random play to the target. Averages below it may be random play."""
NEAR = 0.5
"""Averages within this many standard deviations of random returns from their mean count as random
play. (A moving average of random returns has a standard deviation of 0.07 of theirs.)"""
SETTLED = 300
"""Number of training episodes after which the first has a weight of 5% in the moving average."""
GONE = 0.05
"""An entropy below this share of the first entropy counts as gone."""
SELDOM = 0.01
"""Rewards are too rare to learn from if a smaller share of the training episodes returned more than
the lowest return."""
EARLY = 0.5
"""Entropy that is gone before this share of the run's steps is gone early."""
FAR = 0.25
"""A score is far below another if it is lower by this share of the range of returns."""
RISING = 0.05
"""Returns still rise if the last quarter contributed this share of the whole gain."""
MOST = 0.5
"""Evaluations took too long if they took more than this share of the wall time."""


class RunFacts(NamedTuple):
    """What a run measured.

    Attributes:
        history: the course of the run.
        steps: number of environment steps.
        baseline: mean return of random actions; None if it was not measured.
        target: mean return that solves the environment; None if there is no target.
        used_up: whether the run ended because a budget was used up.
        evaluation_seconds: time spent on selection, verification and baseline.
        wall_seconds: wall time of the run.
        final: score of the best policy; None if it was not measured.
        deviation: standard deviation of the returns of random actions; 0 if unknown.
    """

    history: History
    steps: int
    baseline: float | None
    target: float | None
    used_up: bool
    evaluation_seconds: float
    wall_seconds: float
    final: FinalScore | None = None
    deviation: float = 0.0


def find(facts: RunFacts) -> list[str]:
    """The findings, one or two sentences each."""
    return [
        text
        for look in (_level, _entropy, _greedy, _collapse, _value, _rising, _evaluations)
        for text in look(facts)
    ]


def _range(facts: RunFacts) -> float:
    """The range of returns seen so far."""
    low, high = facts.history.returns or (0.0, 0.0)
    return high - low


def _level(facts: RunFacts) -> Iterator[str]:
    history, baseline = facts.history, facts.baseline
    if history.returns is None:
        if not facts.steps:
            # The run was interrupted before it started.
            return
        yield (
            "No training episode ended within the run: give the run more steps, or the environment "
            "a time limit (max_episode_steps)."
        )
        return
    low, high = history.returns
    advice = (
        "Reward progress towards the goal, or explore more: --entropy-coefficient 0.01, more "
        "--envs-per-worker."
    )
    if low == high:
        yield f"{_constant(history.episodes, low, baseline)} {advice}"
        return
    if baseline is None:
        return
    way = high - baseline if facts.target is None else facts.target - baseline
    share = max(0.0, RANDOM_SHARE * way)
    best = max(point.value for point in history.average.from_value(SETTLED))
    if best - baseline > share:
        return
    if history.above_lowest < SELDOM * history.episodes and low <= baseline:
        lowest, highest = numbers(low, high)
        yield (
            f"Training was rarely better than random play ({number(baseline, low)}): only "
            f"{history.above_lowest:,} of {history.episodes:,} training episodes returned more "
            f"than {lowest} ({highest} at best), so there was little reward to learn from. {advice}"
        )
        return
    near = min(share, NEAR * facts.deviation)
    if best - baseline > near:
        return
    if facts.final is not None and facts.final.verified.low > baseline + near:
        # The scored policy is better than random, although training, which explores, is not.
        return
    reached, random = numbers(best, baseline)
    level = "stayed at the level of" if baseline - best <= near else "never reached the level of"
    yield (
        f"Training {level} random actions: its average reached {reached}, random "
        f"play {random}. poise doctor checks the environment for problems; try another "
        "--learning-rate, and --normalize-observations on."
    )


def _constant(episodes: int, value: float, baseline: float | None) -> str:
    """The finding if all training episodes had the same return."""
    text = f"all {episodes:,} training episodes returned {number(value)}"
    if baseline is None or value > baseline:
        also = "" if baseline is None else f" (random play: {number(baseline, value)})"
        return f"No action ever made a difference: {text}{also}."
    random = "like random play" if value == baseline else f"random play {number(baseline, value)}"
    reward = "reward" if value == 0.0 else "reward that depends on the actions"
    return f"Never better than random: {text}, {random}, so no {reward} was ever seen."


def _entropy(facts: RunFacts) -> Iterator[str]:
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


def _greedy(facts: RunFacts) -> Iterator[str]:
    history, final = facts.history, facts.final
    if final is not None and not final.verified.greedy:
        return
    if final is not None and final.sampled is not None:
        score = final.sampled
        if score.low > final.verified.high:
            greedy, sampled = numbers(final.verified.mean, score.mean)
            yield (
                f"Sampled actions are better than greedy ones: {sampled} against {greedy}, the "
                f"best policy on {score.episodes} fresh episodes each. Train with --policy "
                "sampled to have sampled actions scored and saved; poise evaluate and poise play "
                "have this flag too."
            )
        return
    if history.evaluated is None or history.latest is None:
        return
    if history.latest - history.evaluated.value > FAR * _range(facts) > 0.0:
        greedy, sampled = numbers(history.evaluated.value, history.latest)
        yield (
            f"Greedy actions are far worse than sampled ones: {greedy} in the last evaluation, "
            f"{sampled} in training. poise evaluate --policy sampled scores the sampled policy; "
            "train with --policy sampled to have it selected and saved."
        )


def _collapse(facts: RunFacts) -> Iterator[str]:
    history = facts.history
    last, best = history.evaluated, history.best
    value = history.kept if best is None else best.value
    if last is None or value is None or not value - last.value > FAR * _range(facts) > 0.0:
        return
    before, after = numbers(value, last.value)
    when = (
        "before this run was resumed"
        if best is None
        else f"after {best.steps:,} of {facts.steps:,} steps"
    )
    verified = ""
    if facts.final is not None:
        score = facts.final.verified
        mean = with_error(score.mean, score.standard_error)
        verified = f", and scored {mean} over {score.episodes} fresh episodes"
    yield (
        f"The policy was best {when}, with {before}, and fell to {after} by the last evaluation. "
        f"The best one was kept (best.safetensors){verified}. Try a lower --learning-rate, or "
        "--learning-rate-schedule linear."
    )


def _value(facts: RunFacts) -> Iterator[str]:
    course = facts.history.value_loss
    first, last = course.mean(0.0, 0.25), course.mean(0.75, 1.0)
    if first is not None and last is not None and last > 2.0 * first > 0.0:
        yield (
            f"The critic did not learn to predict returns: its loss rose from {first:.3g} in the "
            f"first quarter to {last:.3g} in the last. If rewards are large, try --reward-scale; "
            "or try a lower --learning-rate."
        )


def _rising(facts: RunFacts) -> Iterator[str]:
    points = facts.history.average.points
    if not facts.used_up or len(points) < 8:
        return
    values = [point.value for point in points]
    gain = max(values) - min(values)
    recent = values[-1] - values[3 * len(values) // 4]
    if gain > 0.0 and recent > RISING * gain and max(values) - values[-1] < RISING * gain:
        before, after = numbers(values[3 * len(values) // 4], values[-1])
        yield (
            f"Returns were still rising when the budget ended: the average rose from {before} to "
            f"{after} in the last quarter. Continue with "
            f"poise resume and --max-steps {2 * facts.steps}."
        )


def _evaluations(facts: RunFacts) -> Iterator[str]:
    share = facts.evaluation_seconds / facts.wall_seconds if facts.wall_seconds else 0.0
    if share > MOST:
        yield (
            f"Evaluations took {share:.0%} of the time: try a larger --evaluation-interval, or "
            "fewer --selection-episodes and --verification-episodes."
        )
