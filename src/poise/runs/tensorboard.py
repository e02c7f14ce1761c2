"""TensorBoard: a subscriber that writes the run's curves as TensorBoard event files."""

from pathlib import Path
from types import TracebackType

from poise.learning.events import EpisodeFinished, Evaluated, Event, Updated

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes scalars against environment steps; a context manager, callable as a subscriber.

    Args:
        folder: where the event files go.
        every: updates between two rows about updates.
    """

    def __init__(self, folder: Path, every: int) -> None:
        from tensorboardX import SummaryWriter  # only where it is wanted  # noqa: PLC0415

        self._writer = SummaryWriter(str(folder))
        self._every = every

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
        """Write what a curve can be made of."""
        del when
        match event:
            case EpisodeFinished():
                self._add("episode/return", event.episode_return, event.steps)
                self._add("episode/length", event.length, event.steps)
                self._add("episode/moving_average", event.moving_average, event.steps)
            case Updated() if event.update % self._every == 0:
                for name in ("loss", "policy_loss", "value_loss", "entropy", "gradient_norm"):
                    self._add(f"update/{name}", getattr(event, name), event.steps)
                self._add("update/staleness", event.staleness, event.steps)
                self._add("update/learning_rate", event.learning_rate, event.steps)
            case Evaluated():
                self._add("evaluation/selection", event.verdict.selection.mean, event.steps)
                if event.verdict.verification is not None:
                    verified = event.verdict.verification.mean
                    self._add("evaluation/verification", verified, event.steps)

    def _add(self, name: str, value: float, steps: int) -> None:
        self._writer.add_scalar(name, value, steps)
