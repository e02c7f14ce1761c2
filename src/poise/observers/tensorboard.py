"""TensorBoard: writes the run's curves as TensorBoard event files.

The names are those of Stable-Baselines3, which many users know.
"""

from collections import deque
from pathlib import Path
from statistics import fmean
from types import TracebackType

from poise.learning.events import EpisodeFinished, Evaluated, Event, Updated

__all__ = ["TensorBoard"]

WINDOW = 100
"""Number of episodes averaged in ``rollout/ep_rew_mean``, as in Stable-Baselines3."""


class TensorBoard:
    """Writes scalars against environment steps; an observer, and a context manager.

    Args:
        folder: the folder of the event files.
        every: updates between two rows about updates.
        purge_step: TensorBoard hides what older files in the folder hold from this step on.
    """

    def __init__(self, folder: Path, every: int, purge_step: int | None = None) -> None:
        from tensorboardX import SummaryWriter  # only where it is wanted  # noqa: PLC0415

        self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        self._every = every
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._lengths: deque[int] = deque(maxlen=WINDOW)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    def __call__(self, when: float, event: Event) -> None:
        """Write the scalars of an event."""
        match event:
            case EpisodeFinished():
                self._returns.append(event.episode_return)
                self._lengths.append(event.length)
                self._add("rollout/ep_rew", event.episode_return, event.steps)
            case Updated() if event.update % self._every == 0:
                if self._returns:
                    self._add("rollout/ep_rew_mean", fmean(self._returns), event.steps)
                    self._add("rollout/ep_len_mean", fmean(self._lengths), event.steps)
                if when > 0:
                    self._add("time/fps", event.steps / when, event.steps)
                about = {"staleness": event.staleness, "learning_rate": event.learning_rate}
                for name, value in {**event.metrics, **about}.items():
                    self._add(f"train/{name}", value, event.steps)
            case Evaluated():
                selection, verification = event.result.selection, event.result.reported
                self._add("eval/mean_reward", selection.mean, event.steps)
                self._add("eval/mean_ep_length", selection.steps / selection.episodes, event.steps)
                if verification is not None:
                    self._add("eval/verified_mean_reward", verification.mean, event.steps)

    def _add(self, name: str, value: float, steps: int) -> None:
        self._writer.add_scalar(name, value, steps)
