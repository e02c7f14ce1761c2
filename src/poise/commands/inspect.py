"""The command ``poise inspect``."""

import dataclasses
from pathlib import Path

from tyro.conf import Positional

__all__ = ["Inspect"]


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show the saved batch whose gradient was not finite: its arrays, those with NaN first."""

    run: Positional[Path]
    """A run's folder."""

    def __call__(self) -> int:
        """Print one row per array, those with NaN or infinity first."""
        from poise.storage.bad_batch import inspect_batch  # noqa: PLC0415

        reports = inspect_batch(self.run)
        print("not finite       minimum       maximum  array")
        for row in reports:
            print(
                f"{row.not_finite:10d}  {row.minimum:12.5g}  {row.maximum:12.5g}  {row.name} "
                f"{list(row.shape)}"
            )
        return 0
