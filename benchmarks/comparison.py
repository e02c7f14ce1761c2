"""Measures programs in turn, several times each, and reports medians, ratios and bars.

A comparison is a function that returns the measurements by name, in the order in which they
alternate; each returns a row with `steps_per_second` (or another number to compare) and `process`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import processes
import report

Row = dict[str, Any]
Measurements = dict[str, Callable[[int], Row]]


class Given(NamedTuple):
    """What a comparison is run with."""

    poise: Path
    peers_python: Path | None  # None: without peers
    seconds: float  # length of each measurement
    cache: Path  # for compiled programs


class Comparison(NamedTuple):
    """A benchmark: what it measures and what is wanted of it."""

    name: str  # of the file in benchmarks/results
    measurements: Callable[[Given], Measurements]
    bars: Callable[[Mapping[str, float]], Sequence[report.Bar]]
    notes: Sequence[str]
    number: str = "steps_per_second"  # the number that is compared
    seconds: float = 8.0
    has_peers: bool = True  # whether anything runs in the peers' environment


def ratio(rates: Mapping[str, float], one: str, other: str) -> float | None:
    """Return the ratio of two medians; None if one was not measured."""
    return report.ratio(rates.get(one), rates.get(other))


def main(comparison: Comparison, description: str) -> int:
    """Measure, print tables, and write the result file; return the exit code."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    parser.add_argument(
        "--seconds",
        type=float,
        default=comparison.seconds,
        help=f"length of each; default {comparison.seconds:g}",
    )
    parser.add_argument("--only", default="", help="measure only names that contain this text")
    parser.add_argument("--poise", type=Path, help="default: the poise beside this Python")
    parser.add_argument("--peers-python", type=Path, help="default: .venv-peers/bin/python")
    parser.add_argument("--no-peers", action="store_true", help="measure poise alone")
    results = processes.ROOT / "benchmarks/results"
    parser.add_argument("--json", type=Path, default=results / f"{comparison.name}.json")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or not arguments.seconds > 0:
        parser.error("--repeats must be at least 1, and --seconds above 0")
    processes.leave_on_termination()
    about = report.metadata(sys.argv)
    rows: dict[str, list[Row]] = {}
    try:
        poise = processes.find_poise(arguments.poise)
        peers_python = None
        if comparison.has_peers and not arguments.no_peers:
            peers_python = processes.find_peers_python(arguments.peers_python)
        with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as cache:
            given = Given(poise, peers_python, arguments.seconds, Path(cache))
            todo = comparison.measurements(given)
            for repeat in range(arguments.repeats):
                for name, measure in todo.items():
                    if arguments.only not in name:
                        continue
                    row = measure(repeat)
                    rows.setdefault(name, []).append(row)
                    figure = report.number(row[comparison.number])
                    unit = comparison.number.replace("_", " ")
                    report.progress(f"repeat {repeat}  {name}: {figure} {unit}")
    except processes.BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    medians = {
        name: report.median([row[comparison.number] for row in found])
        for name, found in rows.items()
    }
    bars = comparison.bars(medians)
    machine = about["machine"]
    print(f"\n{machine['processor']}, {machine['cores']} cores, {about['date']}\n")
    lines = [(name, report.number(one), str(len(rows[name]))) for name, one in medians.items()]
    print(report.table(("", comparison.number.replace("_", " "), "runs"), lines))
    print("\n" + report.bars_table(bars) + "\n")
    costs = [row["process"]["other_cores"] for found in rows.values() for row in found]
    notes = [*comparison.notes, report.disturbance(costs)]
    print("\n".join(notes))
    summary = {name: {comparison.number: one} for name, one in medians.items()}
    report.write_json(
        arguments.json,
        {
            **about,
            "notes": notes,
            "summary": summary,
            "bars": [bar.record() for bar in bars],
            "runs": rows,
        },
    )
    return 0
