"""Findings of a run that does not solve: from invented figures, and from a small run."""

from pathlib import Path

import pytest

from poise.evaluation.evaluator import FinalScore
from poise.learning.evaluation_result import Score
from poise.learning.events import EpisodeFinished
from poise.observers.history import MOST_POINTS, Curve, History, Point
from poise.reports.findings import RunFacts, find

from ..small import train
from .recorded import load

STEPS = 1000


def history(
    average: list[float],
    entropy: list[float] = [0.7] * 8,
    value_loss: list[float] = [1.0] * 8,
    greedy: list[float] | None = None,
    returns: tuple[float, float] = (0.0, 100.0),
) -> History:
    made = History()
    for course, values in (
        (made.average, average),
        (made.entropy, entropy),
        (made.value_loss, value_loss),
    ):
        for number, value in enumerate(values, 1):
            course.add(STEPS * number // len(values), value)
    evaluated = [average[-1]] if greedy is None else greedy
    points = [
        Point(STEPS * number // len(evaluated), value) for number, value in enumerate(evaluated, 1)
    ]
    made.evaluated, made.best = points[-1], max(points, key=lambda point: point.value)
    made.returns, made.latest = returns, average[-1]
    made.episodes = len(average)
    made.above_lowest = len(average) - 1 if returns[0] < returns[1] else 0
    return made


LEARNED = [10.0, 40.0, 60.0, 70.0, 75.0, 78.0, 79.0, 79.0]


def facts(course: History, evaluation_seconds: float = 1.0) -> RunFacts:
    return RunFacts(course, STEPS, 10.0, 100.0, True, evaluation_seconds, 10.0, deviation=8.0)


def test_an_ordinary_run_says_nothing() -> None:
    assert find(facts(history(LEARNED))) == []


@pytest.mark.parametrize(
    ("seen", "begins"),
    [
        (history([10.0, 12.0, 12.0, 10.0] * 2), "Training stayed at the level of random actions"),
        (
            history([-39.0, -40.0] * 4),
            "Training never reached the level of random actions: its average reach",
        ),
        (
            history([10.0] * 8, returns=(10.0, 10.0)),
            "Never better than random: all 8 training episodes returned 10, like random play, so "
            "no reward that depends on the actions was ever seen.",
        ),
        (
            history([12.0] * 8, returns=(12.0, 12.0)),
            "No action ever made a difference: all 8 training episodes returned 12 "
            "(random play: 10).",
        ),
        (history(LEARNED, entropy=[0.7, 0.2, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0]), "The policy stopped"),
        (history(LEARNED, greedy=[20.0]), "Greedy actions are far worse than sampled ones: 20"),
        (
            history([*LEARNED[:-1], 78.0], greedy=[20.0, 99.0, 60.0]),
            "The policy was best after 666 of 1,000 steps, with 99",
        ),
        (history(LEARNED, value_loss=[1.0, 1.0, 5.0, 5.0]), "The critic did not learn to predict"),
        (history([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]), "Returns were still rising"),
    ],
)
def test_each_thing_is_seen_alone(seen: History, begins: str) -> None:
    found = find(facts(seen))
    assert len(found) == 1
    assert found[0].startswith(begins)


@pytest.mark.parametrize("target", [None, 100.0, 1e6])
def test_what_is_far_above_random_is_not_called_random(target: float | None) -> None:
    """Independent of the target and of the return of a lucky episode."""
    seen = history([70.0, 72.0, 74.0, 74.0] * 2, returns=(0.0, 5000.0))
    assert find(facts(seen)._replace(baseline=5.3, deviation=8.0, target=target)) == []


def test_a_policy_that_scores_above_random_is_not_called_random() -> None:
    """Training explores: its returns may look random although the greedy policy has learned."""
    seen = facts(history([11.0, 10.0] * 4, greedy=[11.0]))
    (found,) = find(seen._replace(final=final(14.0, None)))
    assert "level of random" in found
    assert find(seen._replace(final=final(20.0, None))) == []


def test_a_lucky_first_episode_is_no_learning() -> None:
    """The moving average starts at the first return, and settles after hundreds of episodes."""
    seen = History()
    for number in range(2000):
        average = 10.0 + 30.0 * 0.99**number
        seen(0.0, EpisodeFinished(0, number, number, float(number % 20), 20, average, 0.0))
    (found,) = find(facts(seen))
    assert found.startswith("Training stayed at the level of random actions")


def final(greedy: float, sampled: float | None, interval: float = 1.0) -> FinalScore:
    def score(mean: float, is_greedy: bool) -> Score:
        low, high = mean - interval, mean + interval
        return Score(mean, 0.5, low, high, low, high, 100, is_greedy, 0, 1000)

    other = None if sampled is None else score(sampled, False)
    return FinalScore(score(greedy, True), False, True, other, 10_000)


def test_a_sampled_policy_that_is_better_by_more_than_both_intervals_is_named() -> None:
    one = facts(history(LEARNED, greedy=[20.0]))
    (found,) = find(one._replace(final=final(20.0, 79.0)))
    assert "79 against 20" in found
    assert "--policy sampled" in found
    assert find(one._replace(final=final(20.0, 21.9))) == []
    # What was not measured is not said, and not of a policy that is scored by its samples.
    sampled = final(20.0, None)
    sampled = sampled._replace(verified=sampled.verified._replace(greedy=False))
    assert find(one._replace(final=sampled)) == []


def test_evaluations_that_take_most_of_the_time_are_named() -> None:
    (found,) = find(facts(history(LEARNED), evaluation_seconds=6.0))
    assert found.startswith("Evaluations took 60% of the time")


def test_no_reward_at_all_is_said_so() -> None:
    seen = facts(history([0.0] * 8, returns=(0.0, 0.0)))._replace(baseline=0.0)
    (found,) = find(seen)
    assert found.startswith(
        "Never better than random: all 8 training episodes returned 0, like random"
    )
    assert "so no reward was ever seen" in found


def test_reward_that_is_seen_too_seldom_is_counted() -> None:
    """As in MountainCar, where a few of thousands of episodes reach the goal by luck."""
    seen = History()
    for number in range(3000):
        value = -180.0 if number in (100, 2000) else -200.0
        event = EpisodeFinished(0, number, number, value, 200, -199.9, 0.0)
        seen(0.0, event)
    assert (seen.episodes, seen.above_lowest) == (3000, 2)
    found = find(facts(seen)._replace(baseline=-200.0, target=-110.0))
    assert found[0].startswith(
        "Training was rarely better than random play (-200): only 2 of 3,000 training "
        "episodes returned more "
        "than -200 (-180 at best)"
    )


def test_episodes_above_the_lowest_are_counted_while_it_falls() -> None:
    seen = History()
    for value in (3.0, 3.0, 2.0, 2.0, 5.0, 1.0, 1.0):
        seen(0.0, EpisodeFinished(0, 0, 0, value, 1, value, 0.0))
    assert (seen.returns, seen.episodes, seen.above_lowest) == ((1.0, 5.0), 7, 5)


def test_the_best_evaluation_is_known_to_the_step_in_a_long_run() -> None:
    """The best evaluation is kept, however many follow, although the history is thinned out."""
    recorded = load("pendulum")
    rows = [row for row in recorded.rows if row["kind"] == "evaluation"]
    best = max(rows, key=lambda row: row["selection"]["mean"])
    later = [{**rows[-1], "steps": rows[-1]["steps"] + number} for number in range(3000)]
    seen = recorded._replace(rows=rows + later).facts().history
    assert seen.best == (best["steps"], best["selection"]["mean"])
    assert seen.evaluated is not None
    assert seen.evaluated.steps == later[-1]["steps"]


def test_mountain_car_says_that_no_reward_was_ever_seen() -> None:
    """Recorded: 400,000 steps, and the goal was not reached once."""
    found = find(load("mountain_car").facts())
    assert found[0].startswith("Never better than random: all ")
    assert "training episodes returned -200, like random play" in found[0]
    assert "no reward that depends on the actions was ever seen" in found[0]
    assert any("stopped exploring" in one for one in found)
    assert not any("was best after" in one for one in found)


def test_pendulum_says_when_it_was_best_and_that_it_was_kept() -> None:
    """Recorded: best at 155,552 steps, and far worse at the end."""
    found = [one for one in find(load("pendulum").facts()) if "was best" in one]
    assert found == [
        "The policy was best after 155,552 of 286,576 steps, with -174.9, and fell to -640.8 by "
        "the last evaluation. The best one was kept (best.safetensors), and scored -276 ± 18 over "
        "100 fresh episodes. Try a lower --learning-rate, or --learning-rate-schedule linear."
    ]


def test_taxi_says_when_its_entropy_was_gone() -> None:
    """Recorded: exploration ended early, with returns above random play's."""
    found = find(load("taxi").facts())
    (said,) = [one for one in found if "stopped exploring" in one]
    assert "its entropy fell from 1.23 to" in said
    steps = int(said.partition("nearly gone after ")[2].split()[0].replace(",", ""))
    assert 0 < steps < 10_000
    assert not any("random" in one for one in found)


def test_a_best_policy_from_before_a_resume_is_not_given_steps() -> None:
    seen = history([*LEARNED[:-1], 78.0], greedy=[20.0, 30.0, 25.0])
    seen.best, seen.kept = None, 99.0
    found = [one for one in find(facts(seen)) if "was best" in one]
    assert len(found) == 1
    assert found[0].startswith("The policy was best before this run was resumed, with 99")


def test_a_run_that_was_interrupted_before_it_began_says_nothing() -> None:
    assert find(facts(History())._replace(steps=0)) == []


def test_a_run_without_an_episode_says_so() -> None:
    (found,) = find(facts(History()))
    assert found.startswith("No training episode ended")


def test_a_long_course_keeps_few_points_over_all_of_it() -> None:
    course = Curve()
    for number in range(100_000):
        course.add(number, float(number))
    assert MOST_POINTS // 2 <= len(course.points) < MOST_POINTS
    assert course.points[0].steps == 0
    assert course.points[-1].steps > 99_000
    assert course.mean(0.75, 1.0) == pytest.approx(87_500, rel=0.01)


def test_a_course_is_known_from_a_value_on() -> None:
    course = Curve()
    for number in range(1000):
        course.add(number, float(number))
    assert course.from_value(300)[0].value == pytest.approx(300, abs=8)
    assert course.from_value(300)[0].value >= 300
    assert course.from_value(2000) == course.points[-1:]


def test_the_summary_holds_what_was_found(tmp_path: Path) -> None:
    """With a tiny learning rate, training stays at the level of random play."""
    result = train(tmp_path / "run", learning_rate=1e-9)
    assert any("level of random actions" in one for one in result.summary["findings"])
