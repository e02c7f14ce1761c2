"""What a run that does not solve says at its end: what was seen, and what to try next.

Every sentence comes from figures that the run measured, and gives them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from poise.evaluation.evaluator import FinalScore
from poise.number_format import number, numbers, with_error
from poise.observers.history import History

__all__ = ["RunFacts", "find"]

RANDOM_SHARE = 0.1
"""Of the way from random play to the target: what stays below may count as random play."""
NEAR = 0.5
"""Standard deviations of random play's returns: what is nearer to their mean counts as random play.
A moving average of random play's returns strays from their mean by 0.07 of them."""
SETTLED = 300
"""Training episodes after which the first one weighs 5% in their moving average."""
GONE = 0.05
"""An entropy below this share of the first one is gone."""
SELDOM = 0.01
"""Share of the training episodes below which what they met is too seldom to be learned from."""
EARLY = 0.5
"""Share of a run's steps before which that is early."""
FAR = 0.25
"""Share of the range of returns by which one score is far below another."""
RISING = 0.05
"""Share of all that was gained, gained in the last quarter: still rising."""
MOST = 0.5
"""Share of the wall time."""


class RunFacts(NamedTuple):
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
        deviation: the standard deviation of the returns of random actions, 0 where it is not known.
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
    """One sentence or two for each thing that was seen."""
    return [
        text
        for look in (_level, _entropy, _greedy, _collapse, _value, _rising, _evaluations)
        for text in look(facts)
    ]


def _range(facts: RunFacts) -> float:
    """How far apart returns are in this environment, as far as is known."""
    low, high = facts.history.returns or (0.0, 0.0)
    return high - low


def _level(facts: RunFacts) -> Iterator[str]:
    history, baseline = facts.history, facts.baseline
    if history.returns is None:
        if not facts.steps:
            # It was interrupted before it began.
            return
        yield (
            "No training episode ended within the run: give it more steps, or the environment a "
            "time limit (max_episode_steps)."
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
            f"Hardly ever above random play ({number(baseline, low)}): only "
            f"{history.above_lowest:,} of {history.episodes:,} training episodes returned more "
            f"than {lowest} ({highest} at best), so there was little reward to learn from. {advice}"
        )
        return
    near = min(share, NEAR * facts.deviation)
    if best - baseline > near:
        return
    if facts.final is not None and facts.final.verified.low > baseline + near:
        # What it learned shows in the policy that is scored, if not in training, which explores.
        return
    reached, random = numbers(best, baseline)
    level = "stayed at the level of" if baseline - best <= near else "never came up to"
    yield (
        f"Training {level} random actions: its average reached {reached}, random "
        f"play {random}. poise doctor looks for what hinders learning; try another "
        "--learning-rate, and --normalize-observations on."
    )


def _constant(episodes: int, value: float, baseline: float | None) -> str:
    """What training episodes say that all returned the same."""
    text = f"all {episodes:,} training episodes returned {number(value)}"
    if baseline is None or value > baseline:
        also = "" if baseline is None else f" (random play: {number(baseline, value)})"
        return f"No action was ever seen to make a difference: {text}{also}."
    random = (
        "as random play does" if value == baseline else f"random play {number(baseline, value)}"
    )
    reward = "reward" if value == 0.0 else "reward that depends on the actions"
    return f"Never above random: {text}, {random}, so no {reward} was ever seen."


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
                "sampled, which then is what is scored and saved; poise evaluate and poise play "
                "take it, too."
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
            f"The critic did not come to predict returns: its loss went from {first:.3g} in the "
            f"first quarter to {last:.3g} in the last. Where rewards are large, try "
            "--reward-scale; or a lower --learning-rate."
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
            f"Returns were still rising when the budget ended: the average went from {before} to "
            f"{after} in the last quarter. Go on: "
            f"poise resume with --max-steps {2 * facts.steps}."
        )


def _evaluations(facts: RunFacts) -> Iterator[str]:
    share = facts.evaluation_seconds / facts.wall_seconds if facts.wall_seconds else 0.0
    if share > MOST:
        yield (
            f"Evaluations took {share:.0%} of the time: try a longer --evaluation-interval, or "
            "fewer --selection-episodes and --verification-episodes."
        )
