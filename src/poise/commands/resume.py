"""The command ``poise resume``."""

import dataclasses
from pathlib import Path

from tyro.conf import Positional

from poise.commands.run_end import end_run
from poise.training.process_role import process_age

__all__ = ["Resume"]


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue a run from its newest checkpoint. A run without a checkpoint starts over."""

    run: Positional[Path]
    """A run's folder."""

    max_steps: int | None = None
    """New budget in environment steps, counted from the start of the run. Default: the budget that
    the run has."""

    max_episodes: int | None = None
    """New budget in finished training episodes, counted from the start of the run. Default: the
    budget that the run has."""

    max_seconds: float | None = None
    """New budget in seconds of training, counted from now. Default: the budget that the run has."""

    quiet: bool = False
    """Print nothing."""

    tensorboard: bool = False
    """Write TensorBoard event files from now on. A run that has them continues them without this
    flag."""

    trust: bool = False
    """Allow importing the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Continue the run. The exit codes are those of train."""
        from poise.training.resume import resume  # noqa: PLC0415

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
