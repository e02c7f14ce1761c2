"""The queue of an evaluation's episodes: which are to be played, and what those over came to."""

from collections import Counter, deque
from collections.abc import Callable, Mapping

from poise.launchers.evaluation_helpers import Task
from poise.learning.evaluation_result import Episode

__all__ = ["EpisodeQueue"]

ATTEMPTS = 2
"""Workers that an episode may be the end of, before the run ends, too."""


class EpisodeQueue:
    """Hands episodes out in the order of their numbers.

    Args:
        task: what is played.
        done: told how many episodes are over, whenever one is.
    """

    def __init__(self, task: Task, done: Callable[[int], None]) -> None:
        self._step_budget = task.step_budget
        self._done = done
        self._waiting = deque(enumerate(task.seeds))
        self._begun = 0
        """Episodes that have been handed out: the first this many."""
        self._steps = 0
        self._ends: Counter[int] = Counter()
        """Workers that an episode was the end of."""
        self.found: dict[int, Episode] = {}
        """What those that are over came to, by number."""

    def __len__(self) -> int:
        """Episodes that wait."""
        return len(self._waiting)

    def drop_unneeded(self) -> None:
        """Let no further episodes begin, once those over have taken the steps that were asked for.

        Of what was begun, all is needed: it may be that only later ones are over.
        """
        if self._step_budget is not None and self._begun and self._steps >= self._step_budget:
            self._waiting = deque(one for one in self._waiting if one[0] < self._begun)

    def take(self) -> tuple[int, int]:
        """The number and the seed of the episode that is played next."""
        number, seed = self._waiting.popleft()
        self._begun = max(self._begun, number + 1)
        return number, seed

    def over(self, number: int, episode: Episode) -> None:
        """An episode is over; where two workers have played it, both came to the same."""
        if number not in self.found:
            self.found[number] = episode
            self._steps += episode.length
            self._done(len(self.found))

    def give_back(self, episodes: Mapping[int, int]) -> None:
        """Have these played by others, and first.

        Args:
            episodes: seeds by number.
        """
        self._waiting.extendleft(sorted(episodes.items(), reverse=True))

    def lose(self, episodes: Mapping[int, int], error: Exception) -> None:
        """A worker came to its end in these.

        Raises:
            Exception: the error given, if one of them was the end of another worker before.
        """
        self._ends.update(episodes.keys())
        if any(self._ends[number] >= ATTEMPTS for number in episodes):
            raise error
        self.give_back(episodes)
