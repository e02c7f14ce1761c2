"""What a run that does not solve says: from made-up figures, and from a small run."""

from pathlib import Path

import pytest

from poise.learning.verdict import Score
from poise.runs.findings import Facts, find
from poise.runs.history import MOST_POINTS, Course, History
from poise.runs.judge import FinalScore

from .small import train

STEPS = 1000


def history(
    average: list[float],
    entropy: list[float] = [0.7] * 8,
    value_loss: list[float] = [1.0] * 8,
    greedy: list[float] | None = None,
    returns: tuple[float, float] = (0.0, 100.0),
) -> History:
    made = History()
    greedy = [average[-1]] if greedy is None else greedy
    for course, values in (
        (made.average, average),
        (made.entropy, entropy),
        (made.value_loss, value_loss),
        (made.greedy, greedy),
    ):
        for number, value in enumerate(values, 1):
            course.add(STEPS * number // len(values), value)
    made.returns, made.latest = returns, average[-1]
    return made


LEARNED = [10.0, 40.0, 60.0, 70.0, 75.0, 78.0, 79.0, 79.0]


def facts(course: History, evaluation_seconds: float = 1.0) -> Facts:
    return Facts(course, STEPS, 10.0, 100.0, True, evaluation_seconds, 10.0)


def test_an_ordinary_run_says_nothing() -> None:
    assert find(facts(history(LEARNED))) == []


@pytest.mark.parametrize(
    ("seen", "begins"),
    [
        (history([10.0, 12.0, 12.0, 10.0] * 2), "Training stayed at the level of random actions"),
        (history([10.0] * 8, returns=(10.0, 10.0)), "Every training episode returned 10"),
        (history(LEARNED, entropy=[0.7, 0.2, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0]), "The policy stopped"),
        (history(LEARNED, greedy=[20.0]), "Greedy actions are far worse than sampled ones: 20"),
        (
            history([*LEARNED[:-1], 78.0], greedy=[20.0, 99.0, 60.0]),
            "The evaluated policy was best",
        ),
        (history(LEARNED, value_loss=[1.0, 1.0, 5.0, 5.0]), "The critic did not come to predict"),
        (history([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]), "Returns were still rising"),
    ],
)
def test_each_thing_is_seen_alone(seen: History, begins: str) -> None:
    found = find(facts(seen))
    assert len(found) == 1
    assert found[0].startswith(begins)


def final(greedy: float, sampled: float | None, interval: float = 1.0) -> FinalScore:
    def score(mean: float, is_greedy: bool) -> Score:
        low, high = mean - interval, mean + interval
        return Score(mean, 0.5, low, high, low, high, 100, is_greedy, 0, 1000)

    other = None if sampled is None else score(sampled, False)
    return FinalScore(score(greedy, True), False, 1, other, 10_000)


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


def test_a_run_without_an_episode_says_so() -> None:
    (found,) = find(facts(History()))
    assert found.startswith("No training episode ended")


def test_a_long_course_keeps_few_points_over_all_of_it() -> None:
    course = Course()
    for number in range(100_000):
        course.add(number, float(number))
    assert MOST_POINTS // 2 <= len(course.points) < MOST_POINTS
    assert course.points[0].steps == 0
    assert course.points[-1].steps > 99_000
    assert course.mean(0.75, 1.0) == pytest.approx(87_500, rel=0.01)


def test_the_summary_holds_what_was_found(tmp_path: Path) -> None:
    """A learning rate of next to nothing leaves training where random play is."""
    result = train(tmp_path / "run", learning_rate=1e-9)
    assert any("level of random actions" in one for one in result.summary["findings"])
