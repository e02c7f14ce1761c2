"""The command ``poise replay``."""

import dataclasses
import sys
from pathlib import Path

from tyro.conf import Positional

from poise.commands.values import terminal_width, wrapped

__all__ = ["Replay"]


@dataclasses.dataclass(frozen=True)
class Replay:
    """Repeat a run from its journal, and compare the parameters bit for bit."""

    run: Positional[Path]
    """A run's folder."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Replay; exit code 0 if it agrees, 1 if it differs."""
        from poise.replaying.replay import replay  # noqa: PLC0415

        report = replay(self.run, trust=self.trust)
        for warning in report.warnings:
            print(f"poise: warning: not the same machine: {warning}", file=sys.stderr)
        compared = " and ".join(report.compared) or "no parameters"
        if "final.safetensors" not in report.compared:
            compared += " (the run left no final.safetensors to compare with)"
        text = (
            f"replayed {report.records:,} records, {report.updates:,} updates and "
            f"{report.steps:,} steps; compared {compared}: identical"
        )
        print(
            f"{wrapped(text, terminal_width())}\n"
            f"SHA-256 of the final parameters: {report.final_hash}"
        )
        if report.announced:
            print("(when it began, the run had said that it cannot be replayed exactly)")
        return 0
