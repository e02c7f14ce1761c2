"""The command ``poise plot``."""

import dataclasses
from pathlib import Path

from tyro.conf import Positional

__all__ = ["Plot"]


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draw a run's learning curve."""

    run: Positional[Path]
    """A run's folder."""

    output: Path | None = None
    """File to write; its suffix, .png, .svg or .pdf, determines the format. Default:
    learning_curve.png in the run's folder."""

    def __call__(self) -> int:
        """Draw the curve and print the path of the file."""
        from poise.reports.plot_run import plot_run  # noqa: PLC0415

        print(plot_run(self.run, self.output))
        return 0
