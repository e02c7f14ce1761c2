"""The statistics of training episodes: the tutorial's statistics, in the order of the updates."""

import collections
from typing import NamedTuple

__all__ = ["EpisodeStatistics", "EpisodeStatisticsState"]

MEAN_WINDOW = 100
"""The tutorial's statistic: the mean over 100 consecutive training episodes."""
MOVING_AVERAGE_DECAY = 0.99
"""The tutorial's moving average: 0.99 old + 0.01 new, started at the first return."""


class EpisodeStatisticsState(NamedTuple):
    """A statistics at one moment, for a checkpoint."""

    episodes: int
    moving_average: float | None
    recent: tuple[float, ...]
    solved: bool
    lengths: tuple[int, ...] = ()


class EpisodeStatistics:
    """Counts finished training episodes.

    Args:
        target_return: what the mean of the last 100 must reach to be called solved.
    """

    def __init__(self, target_return: float | None) -> None:
        self._target = target_return
        self._recent: collections.deque[float] = collections.deque(maxlen=MEAN_WINDOW)
        self._lengths: collections.deque[int] = collections.deque(maxlen=MEAN_WINDOW)
        self.episodes = 0
        self.moving_average: float | None = None
        self.solved = False

    @property
    def mean(self) -> float | None:
        """Mean return of the last 100 episodes (of all, if there are fewer)."""
        # A tenth of the time that NumPy takes for a hundred numbers.
        return sum(self._recent) / len(self._recent) if self._recent else None

    @property
    def longest(self) -> int | None:
        """Steps of the longest of the last 100 episodes, None before the first."""
        return max(self._lengths, default=None)

    def add(self, episode_return: float, length: int) -> bool:
        """Count an episode; true when its mean of 100 reaches the target for the first time."""
        self.episodes += 1
        self._recent.append(episode_return)
        self._lengths.append(length)
        old = self.moving_average
        if old is None:
            self.moving_average = episode_return
        else:
            self.moving_average = (
                MOVING_AVERAGE_DECAY * old + (1 - MOVING_AVERAGE_DECAY) * episode_return
            )
        if self.solved or self._target is None or len(self._recent) < MEAN_WINDOW:
            return False
        mean = self.mean
        self.solved = mean is not None and mean >= self._target
        return self.solved

    def state(self) -> EpisodeStatisticsState:
        """Everything that was counted."""
        recent, lengths = tuple(self._recent), tuple(self._lengths)
        return EpisodeStatisticsState(
            self.episodes, self.moving_average, recent, self.solved, lengths
        )

    def restore(self, state: EpisodeStatisticsState) -> None:
        """Go on from a state."""
        self.episodes, self.moving_average, recent, self.solved, lengths = state
        self._recent = collections.deque(recent, maxlen=MEAN_WINDOW)
        self._lengths = collections.deque(lengths, maxlen=MEAN_WINDOW)
