"""Reporting for all benchmarks: the machine, statistics, tables, bars and JSON files.

A run that did not solve counts as infinitely slow, so that medians are fair; JSON has no infinity,
so null is written. No file contains an absolute path or a host name.
"""

import datetime
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNSOLVED = math.inf
QUIET_CORES = 0.25  # above this, other programs disturbed a run; ticks of 10 ms give some noise


def processor_name() -> str:
    """Return the processor's model name, or its architecture if the name is unknown."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() == "model name":
                return value.strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.machine()


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, system and Python, and how busy it is now."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "cores_usable": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def command_line(arguments: Sequence[str]) -> str:
    """Return the command with absolute paths cut to their last part."""

    def cut(argument: str) -> str:
        option, equals, value = argument.rpartition("=")
        return option + equals + (Path(value).name if Path(value).is_absolute() else value)

    script = Path(arguments[0]).name
    return " ".join(["python", f"benchmarks/{script}", *map(cut, arguments[1:])])


def metadata(arguments: Sequence[str]) -> dict[str, Any]:
    """Return what belongs in every result file: the command, the date and the machine."""
    return {
        "command": command_line(arguments),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """Return the `share` quantile, interpolated; infinite where it touches an unsolved run."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    if below == above or position == math.floor(position):
        return below
    return below + (position - math.floor(position)) * (above - below)


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return quantile(values, 0.5)


def ratio(slow: float | None, fast: float | None) -> float | None:
    """Return `slow / fast`, or None if either is missing or `slow` is infinite."""
    if slow is None or fast is None or math.isinf(slow):
        return None
    return slow / fast


def finite(value: float | None) -> float | None:
    """Return the value for JSON: None for infinity."""
    return None if value is None or math.isinf(value) else value


def number(value: float | None, digits: int = 2) -> str:
    """Format a figure for a table."""
    if value is None:
        return "-"
    return "unsolved" if math.isinf(value) else f"{value:,.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the columns: the first to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


@dataclass(frozen=True)
class Bar:
    """A figure and its required value: `figure` must be `<=`, `>=` or `>` the `threshold`."""

    name: str
    figure: float | None
    comparison: str
    threshold: float
    unit: str
    note: str = ""

    @property
    def result(self) -> str:
        """PASS, MISS, or "not measured" if there is no figure."""
        if self.figure is None:
            return "not measured"
        holds = {
            "<=": self.figure <= self.threshold,
            ">=": self.figure >= self.threshold,
            ">": self.figure > self.threshold,
        }[self.comparison]
        return "PASS" if holds else "MISS"

    @property
    def wanted(self) -> str:
        """The bar in words, such as ">= 2x"."""
        whole = float(self.threshold).is_integer()
        threshold = f"{self.threshold:,.0f}" if whole else f"{self.threshold:g}"
        return f"{self.comparison} {threshold}{self.unit}"

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return the bar as a table's row."""
        digits = 0 if self.threshold >= 1_000 else 2
        unit = self.unit if finite(self.figure) is not None else ""
        return (
            self.name,
            number(self.figure, digits) + unit,
            self.wanted,
            self.result,
            self.note,
        )

    def record(self) -> dict[str, Any]:
        """Return the bar for JSON."""
        return {
            "name": self.name,
            "figure": finite(self.figure),
            "wanted": self.wanted,
            "verdict": self.result,
            "note": self.note,
        }


def bars_table(bars: Sequence[Bar]) -> str:
    """Return the bars with their figures and results as a table."""
    return table(("bar", "figure", "wanted", "", ""), [bar.cells() for bar in bars])


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a result file, making its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    print(f"\nwritten: {path}")


def disturbance(other_cores: Sequence[float | None]) -> str:
    """Say how quiet the machine was, given the cores that other programs took in each run."""
    measured = [value for value in other_cores if value is not None]
    if not measured:
        return "How busy other programs kept the machine was not measured on this system."
    disturbed = sum(value > QUIET_CORES for value in measured)
    if disturbed == 0:
        return f"Quiet machine: other programs took at most {max(measured):.2f} cores in any run."
    return (
        f"WARNING, DISTURBED: in {disturbed} of {len(measured)} runs other programs took more than "
        f"{QUIET_CORES} cores (at most {max(measured):.2f}). Measure again on an idle machine."
    )


def progress(line: str) -> None:
    """Print on standard error what has just been measured."""
    print(line, file=sys.stderr, flush=True)
