"""How much of a run's budget is used up, and how long the rest will take."""

from typing import NamedTuple

from poise.config import TrainConfig

__all__ = ["Budget", "JournalSummary", "clock"]


class JournalSummary(NamedTuple):
    """How far a run is.

    Attributes:
        share: of the budget that is used up first, from 0 to 1.
        left: seconds until it is used up, at the pace so far; None where nothing tells.
        steps_per_second: since training began in this process.
    """

    share: float
    left: float | None
    steps_per_second: float


class Budget:
    """The budgets of a run.

    Args:
        config: says them.
        steps: that were behind the run when this process began.
        episodes: likewise.
    """

    def __init__(self, config: TrainConfig, steps: int = 0, episodes: int = 0) -> None:
        self._config = config
        self._steps = steps
        self._episodes = episodes

    def journal_summary(self, steps: int, episodes: int, seconds: float) -> JournalSummary:
        """How far the run is.

        Args:
            steps: since the run's beginning.
            episodes: likewise.
            seconds: of training in this process.
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
    """A time as hours, minutes and seconds: 0:01:23."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
