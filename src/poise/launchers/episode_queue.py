"""Queue of an evaluation's episodes: those still to be played, and the results of those played."""

from collections import Counter, deque
from collections.abc import Callable, Mapping

from poise.launchers.evaluation_helpers import Task
from poise.learning.evaluation_result import Episode

__all__ = ["EpisodeQueue"]

ATTEMPTS = 2
"""Workers that may fail on the same episode before the run fails, too."""


class EpisodeQueue:
    """Hands episodes out in the order of their numbers.

    Args:
        task: the episodes to play.
        done: called with the number of finished episodes, each time one finishes.
    """

    def __init__(self, task: Task, done: Callable[[int], None]) -> None:
        self._step_budget = task.step_budget
        self._done = done
        self._waiting = deque(enumerate(task.seeds))
        self._begun = 0
        """Number of episodes that have been handed out; always the first ones."""
        self._steps = 0
        self._ends: Counter[int] = Counter()
        """Number of workers that failed on each episode."""
        self.found: dict[int, Episode] = {}
        """Results of the finished episodes, by number."""

    def __len__(self) -> int:
        """Return how many episodes still wait to be played."""
        return len(self._waiting)

    def drop_unneeded(self) -> None:
        """Hand out no further episodes once the finished ones have used up the step budget.

        Episodes that have been handed out before are still needed, because the finished ones may
        not be the first ones.
        """
        if self._step_budget is not None and self._begun and self._steps >= self._step_budget:
            self._waiting = deque(one for one in self._waiting if one[0] < self._begun)

    def take(self) -> tuple[int, int]:
        """Return the number and the seed of the next episode to play."""
        number, seed = self._waiting.popleft()
        self._begun = max(self._begun, number + 1)
        return number, seed

    def over(self, number: int, episode: Episode) -> None:
        """Record a finished episode; if two workers played it, both got the same result."""
        if number not in self.found:
            self.found[number] = episode
            self._steps += episode.length
            self._done(len(self.found))

    def give_back(self, episodes: Mapping[int, int]) -> None:
        """Put episodes back at the front of the queue, for other workers to play.

        Args:
            episodes: seeds by number.
        """
        self._waiting.extendleft(sorted(episodes.items(), reverse=True))

    def lose(self, episodes: Mapping[int, int], error: Exception) -> None:
        """Handle the failure of a worker that was playing these episodes.

        Raises:
            Exception: the error given, if another worker failed on one of them before.
        """
        self._ends.update(episodes.keys())
        if any(self._ends[number] >= ATTEMPTS for number in episodes):
            raise error
        self.give_back(episodes)
