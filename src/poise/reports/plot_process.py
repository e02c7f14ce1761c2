"""A separate process that draws the learning curve, started at the beginning of the command.

Importing Matplotlib takes a third of a second under the GIL, as long as training CartPole does. The
command line starts this process first, so that Matplotlib is imported there while JAX is imported
here. The process does not import JAX and exits at the end of its standard input. If it fails, the
curve is drawn in the main process.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from poise.reports.curve import draw_curve
from poise.reports.curve_data import Marks

__all__ = ["Plotter"]

DRAW_SECONDS = 30.0
"""Maximum time for the process to draw before the main process draws instead."""


class Plotter:
    """The drawing process: a context manager that is called like `draw_curve`."""

    def __init__(self) -> None:
        # A new session, so that Ctrl-C reaches only the main process.
        self.process: subprocess.Popen[str] | None = subprocess.Popen(
            [sys.executable, "-m", "poise.reports.curve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> "Plotter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def __call__(self, metrics: Path, output: Path, marks: Marks) -> None:
        """Draw the curve; see `draw_curve` for the arguments and errors."""
        arguments = {
            "metrics": str(metrics.resolve()),
            "output": str(output.resolve()),
            "marks": marks._asdict(),
        }
        process, self.process = self.process, None
        drawn = ""
        if process is not None:
            try:
                drawn = process.communicate(json.dumps(arguments) + "\n", DRAW_SECONDS)[0]
            except (OSError, subprocess.TimeoutExpired):
                process.kill()
                process.communicate()
        if drawn.strip() != "drawn":
            draw_curve(metrics, output, marks)
