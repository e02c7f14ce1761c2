"""The command ``poise train``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from poise.commands.run_end import end_run
from poise.config import TrainConfig
from poise.presets.choice import AUTO, choose_preset
from poise.presets.preset import to_toml
from poise.training.process_role import process_age

__all__ = ["Train"]


@dataclasses.dataclass(frozen=True)
class Train:
    """Train an agent until it solves the environment or uses up a budget."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """Settings of the run."""

    run_dir: Path | None = None
    """New folder for the run. Default: a folder in runs/, named after environment, algorithm and
    seed."""

    quiet: bool = False
    """Print nothing."""

    tensorboard: bool = False
    """Also write TensorBoard event files into the run's folder."""

    preset: str = AUTO
    """Settings to use instead of the defaults: auto (poise's preset for the environment, if it has
    one), none, the name of one of poise's presets, or a TOML file. Flags have priority."""

    show_config: bool = False
    """Print the settings in the form of a preset, and do not train."""

    def __call__(self) -> int:
        """Train. The exit code is 0, or 130 or 143 if a signal ended the run."""
        preset = choose_preset(self.preset, self.config.environment)
        if self.show_config:
            print(to_toml(self.config))
            return 0
        from poise.reports.plot_process import Plotter  # noqa: PLC0415

        here = Path.cwd()
        with Plotter() as draw:
            from poise.training.train import train_config  # noqa: PLC0415

            result = train_config(
                self.config,
                run_dir=self.run_dir,
                quiet=self.quiet,
                draw=draw,
                tensorboard=self.tensorboard,
                preset=preset,
                process_age=process_age(),
            )
        return end_run(result, self.quiet, here)
