"""The command ``poise runs``."""

import dataclasses
import json
import sys
from pathlib import Path

from tyro.conf import Positional

from poise.commands.values import terminal_width
from poise.errors import RunFolderError

__all__ = ["Runs"]


@dataclasses.dataclass(frozen=True)
class Runs:
    """List the runs in a folder: environment, seed, solved or not, score, steps and time."""

    folder: Positional[Path] = Path("runs")
    """Folder that contains the runs, at most three levels deep."""

    json: bool = False
    """Print the result as one JSON list."""

    def __call__(self) -> int:
        """Print a table with the latest run last."""
        from poise.reports.run_list import list_runs, table  # noqa: PLC0415

        runs, problems = list_runs(self.folder)
        for problem in problems:
            print(f"poise: warning: {problem}", file=sys.stderr)
        if self.json:
            print(json.dumps([one.to_json() for one in runs], indent=2))
            return 0
        if not runs and not problems:
            raise RunFolderError(f"there is no run in {self.folder}")
        for row in table(runs, self.folder, terminal_width()):
            print(row)
        return 0
