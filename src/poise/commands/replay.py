"""The command ``poise replay``."""

import dataclasses
import sys
from pathlib import Path

from tyro.conf import Positional

from poise.commands.values import terminal_width, wrapped

__all__ = ["Replay"]


@dataclasses.dataclass(frozen=True)
class Replay:
    """Repeat a run from its journal, and check that the parameters are identical bit for bit."""

    run: Positional[Path]
    """A run's folder."""

    trust: bool = False
    """Allow importing the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Replay the run. The exit code is 0 if the replay is identical, 1 if it differs."""
        from poise.replaying.replay import replay  # noqa: PLC0415

        report = replay(self.run, trust=self.trust)
        for warning in report.warnings:
            print(f"poise: warning: not the same machine: {warning}", file=sys.stderr)
        compared = " and ".join(report.compared) or "no parameters"
        if "final.safetensors" not in report.compared:
            compared += " (the run has no final.safetensors to compare with)"
        text = (
            f"replayed {report.records:,} records, {report.updates:,} updates and "
            f"{report.steps:,} steps; compared {compared}: identical"
        )
        print(
            f"{wrapped(text, terminal_width())}\n"
            f"SHA-256 of the final parameters: {report.final_hash}"
        )
        if report.announced:
            print("(the run had warned at its start that it cannot be replayed exactly)")
        return 0
