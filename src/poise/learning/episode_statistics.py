"""Statistics of training episodes, as in the tutorial, in the order of the updates."""

import collections
from typing import NamedTuple

__all__ = ["EpisodeStatistics", "EpisodeStatisticsState"]

MEAN_WINDOW = 100
"""Number of consecutive training episodes in the mean return, as in the tutorial."""
MOVING_AVERAGE_DECAY = 0.99
"""Decay of the moving average, as in the tutorial: 0.99 old + 0.01 new, from the first return."""


class EpisodeStatisticsState(NamedTuple):
    """The content of `EpisodeStatistics`, for a checkpoint."""

    episodes: int
    moving_average: float | None
    recent: tuple[float, ...]
    solved: bool
    lengths: tuple[int, ...] = ()


class EpisodeStatistics:
    """Counts finished training episodes and averages their returns.

    Args:
        target_return: the environment counts as solved when the mean return of the last 100
            episodes reaches this; None if there is no target.
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
        # For a hundred numbers this takes a tenth of the time of NumPy's mean.
        return sum(self._recent) / len(self._recent) if self._recent else None

    @property
    def longest(self) -> int | None:
        """Steps of the longest of the last 100 episodes; None before the first."""
        return max(self._lengths, default=None)

    def add(self, episode_return: float, length: int) -> bool:
        """Count an episode; returns whether the mean now reaches the target for the first time."""
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
        """Return the state, for a checkpoint."""
        recent, lengths = tuple(self._recent), tuple(self._lengths)
        return EpisodeStatisticsState(
            self.episodes, self.moving_average, recent, self.solved, lengths
        )

    def restore(self, state: EpisodeStatisticsState) -> None:
        """Continue from a state."""
        self.episodes, self.moving_average, recent, self.solved, lengths = state
        self._recent = collections.deque(recent, maxlen=MEAN_WINDOW)
        self._lengths = collections.deque(lengths, maxlen=MEAN_WINDOW)
