"""The queue of an evaluation's episodes, without workers that play them."""

import pytest

from poise.launchers.episode_queue import EpisodeQueue
from poise.launchers.evaluation_helpers import Task
from poise.learning.evaluation_result import Episode

SEEDS = [100, 101, 102, 103]


def new_queue(step_budget: int | None = None) -> tuple[EpisodeQueue, list[int]]:
    done: list[int] = []
    return EpisodeQueue(Task(None, SEEDS, step_budget=step_budget), done.append), done


def test_episodes_are_handed_out_in_order_and_returned_ones_first() -> None:
    queue, _ = new_queue()
    first, second = queue.take(), queue.take()
    assert [first, second] == [(0, 100), (1, 101)]
    queue.give_back({1: 101, 0: 100})
    assert [queue.take() for _ in range(len(queue))] == list(enumerate(SEEDS))


def test_an_episode_that_was_played_twice_counts_once() -> None:
    queue, done = new_queue()
    for number in (0, 0, 1):
        queue.over(number, Episode(1.0, 5, False))
    assert done == [1, 2]
    assert sorted(queue.found) == [0, 1]


def test_after_the_budget_only_episodes_that_had_begun_are_handed_out_again() -> None:
    queue, _ = new_queue(step_budget=10)
    queue.drop_unneeded()
    assert len(queue) == 4
    lost = dict([queue.take(), queue.take()])
    queue.over(1, Episode(1.0, 10, False))
    queue.give_back({0: lost[0]})
    queue.drop_unneeded()
    assert [queue.take() for _ in range(len(queue))] == [(0, 100)]


def test_a_second_failure_on_an_episode_is_raised() -> None:
    queue, _ = new_queue()
    queue.lose(dict([queue.take(), queue.take()]), ValueError("the first"))
    queue.lose({2: 102}, ValueError("of another episode"))
    with pytest.raises(ValueError, match="the second"):
        queue.lose({1: 101}, ValueError("the second"))
