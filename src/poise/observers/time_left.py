"""Progress of a run's budgets, and the estimated time left."""

from typing import NamedTuple

from poise.config import TrainConfig

__all__ = ["Budget", "JournalSummary", "clock"]


class JournalSummary(NamedTuple):
    """Progress of a run.

    Attributes:
        share: used fraction of the budget that is closest to its end, from 0 to 1.
        left: estimated seconds until a budget is used up; None if there is no estimate.
        steps_per_second: average since training began in this process.
    """

    share: float
    left: float | None
    steps_per_second: float


class Budget:
    """The budgets of a run.

    Args:
        config: holds the budgets.
        steps: steps that the run had taken before this process.
        episodes: episodes that it had finished before this process.
    """

    def __init__(self, config: TrainConfig, steps: int = 0, episodes: int = 0) -> None:
        self._config = config
        self._steps = steps
        self._episodes = episodes

    def journal_summary(self, steps: int, episodes: int, seconds: float) -> JournalSummary:
        """Return the run's progress.

        Args:
            steps: environment steps since the run's beginning.
            episodes: training episodes since the run's beginning.
            seconds: seconds of training in this process.
        """
        config = self._config
        shares = [0.0]
        lefts: list[float] = []
        for done, before, limit in (
            (steps, self._steps, config.max_steps),
            (episodes, self._episodes, config.max_episodes),
            (seconds, 0, config.max_seconds),
        ):
            if limit is None:
                continue
            shares.append(done / limit)
            if done > before and seconds > 0.0:
                lefts.append(max(0.0, limit - done) * seconds / (done - before))
        speed = max(0, steps - self._steps) / seconds if seconds > 0.0 else 0.0
        return JournalSummary(min(1.0, max(shares)), min(lefts, default=None), speed)


def clock(seconds: float) -> str:
    """Format a time as hours, minutes and seconds: 0:01:23."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
