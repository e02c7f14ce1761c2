"""The command ``poise resume``."""

import dataclasses
from pathlib import Path

from tyro.conf import Positional

from poise.commands.run_end import end_run

__all__ = ["Resume"]


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with a run from its newest checkpoint; before the first, start it over."""

    run: Positional[Path]
    """A run's folder."""

    max_steps: int | None = None
    """A new budget in environment steps, counted from the run's beginning."""

    max_episodes: int | None = None
    """A new budget in finished training episodes, counted from the run's beginning."""

    max_seconds: float | None = None
    """A new budget in seconds of training, counted from now."""

    quiet: bool = False
    """Print nothing."""

    tensorboard: bool = False
    """Write TensorBoard event files from here on; a run that wrote them goes on with them."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Go on; exit codes as of train."""
        from poise.training.resume import resume  # noqa: PLC0415
        from poise.training.runtime import process_age  # noqa: PLC0415

        here = Path.cwd()
        result = resume(
            self.run,
            quiet=self.quiet,
            max_steps=self.max_steps,
            max_episodes=self.max_episodes,
            max_seconds=self.max_seconds,
            tensorboard=self.tensorboard,
            trust=self.trust,
            process_age=process_age(),
        )
        return end_run(result, self.quiet, here)
