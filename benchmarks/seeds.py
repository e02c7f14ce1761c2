"""Number of steps that poise takes to solve CartPole-v1, over many seeds, compared with SB3 A2C.

One fresh process per seed, one at a time, with a warm cache; a seed that does not solve counts as
infinite. With --peers-python, SB3 A2C is run for the first seeds too, interleaved, by the greedy
rule.

    python benchmarks/seeds.py --seeds 100 --max-steps 200000
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import processes
import report

BINS = 12
BAR_WIDTH = 40  # characters of the fullest bin

NOTES = (
    "Steps at which a check of the greedy policy first found a mean of at least 475. One pass, "
    "every seed a fresh process, one at a time, warm cache; peers interleaved seed by seed.",
    "Poise stops at its own verified checks; SB3 A2C is checked every 4,096 steps. Seconds: poise "
    "from spawn to exit; SB3 from process start to the solving check, checks not counted.",
)

Row = dict[str, Any]


def poise_row(poise: Path, seed: int, max_steps: int, cache_home: Path) -> Row:
    """Run poise on one seed."""
    options = ("--max-steps", str(max_steps))
    finished, summary = processes.poise_train(poise, seed, cache_home, options)
    return {
        "program": "poise",
        "seed": seed,
        "solved": summary["solved"],
        "steps": summary["solved_at_steps"] if summary["solved"] else None,
        "seconds": finished.seconds,
        **finished.costs(),
        "summary": summary,
    }


def peer_row(peers_python: Path, seed: int) -> Row:
    """Run SB3 A2C on one seed."""
    finished, result = processes.sb3_train(peers_python, "a2c", seed, "greedy")
    return {
        "program": "SB3 A2C",
        "seed": seed,
        "solved": result["solved"],
        "steps": result["steps"] if result["solved"] else None,
        "seconds": result["seconds_from_process_start"],
        **finished.costs(),
        "summary": result,
    }


def measure(
    poise: Path, peers_python: Path | None, seeds: int, peer_seeds: int, max_steps: int
) -> list[Row]:
    """Run every seed and return the raw rows."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as scratch:
        cache_home = Path(scratch)
        report.progress("warming up (not counted)")
        poise_row(poise, seeds, max_steps, cache_home)
        for seed in range(max(seeds, peer_seeds if peers_python else 0)):
            if seed < seeds:
                rows.append(poise_row(poise, seed, max_steps, cache_home))
                report.progress(_line(rows[-1]))
            if peers_python is not None and seed < peer_seeds:
                rows.append(peer_row(peers_python, seed))
                report.progress(_line(rows[-1]))
    return rows


def _line(row: Row) -> str:
    steps = report.number(row["steps"] if row["solved"] else report.UNSOLVED, 0)
    return f"seed {row['seed']}  {row['program']}: {steps} steps, {row['seconds']:.2f} s"


def steps_of(rows: Sequence[Row], program: str) -> list[float]:
    """Return a program's steps to solve, infinite where it did not."""
    return [
        row["steps"] if row["solved"] else report.UNSOLVED
        for row in rows
        if row["program"] == program
    ]


def distribution(rows: Sequence[Row], program: str) -> dict[str, float]:
    """Return how many solved, and the quantiles of the steps."""
    steps = steps_of(rows, program)
    return {
        "solved": sum(math.isfinite(value) for value in steps),
        "runs": len(steps),
        "min": min(steps),
        "10%": report.quantile(steps, 0.1),
        "median": report.median(steps),
        "90%": report.quantile(steps, 0.9),
        "max": max(steps),
        "median_seconds": report.median(
            [row["seconds"] for row in rows if row["program"] == program]
        ),
    }


def histogram(steps: Sequence[float]) -> str:
    """Draw the steps to solve in equal bins, one line each, and the unsolved seeds last."""
    solved = [value for value in steps if math.isfinite(value)]
    lines = []
    if solved:
        low, high = min(solved), max(solved)
        width = max((high - low) / BINS, 1.0)
        counts = [0] * BINS
        for value in solved:
            counts[min(int((value - low) / width), BINS - 1)] += 1
        for index, count in enumerate(counts):
            bar = "#" * math.ceil(BAR_WIDTH * count / max(counts))
            lines.append(f"{low + index * width:>10,.0f}  {count:>4}  {bar}".rstrip())
    if len(solved) < len(steps):
        lines.append(f"{'unsolved':>10}  {len(steps) - len(solved):>4}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many, from 0 (default 100)")
    parser.add_argument("--max-steps", type=int, default=200_000, help="poise's (default 200000)")
    parser.add_argument("--poise", type=Path, help="default: the poise beside this Python")
    parser.add_argument("--peers-python", type=Path, help="adds SB3 A2C (default: left out)")
    parser.add_argument("--peer-seeds", type=int, default=20, help="default 20; about 10 s each")
    parser.add_argument(
        "--json", type=Path, default=processes.ROOT / "benchmarks/results/seeds.json"
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.peer_seeds < 1:
        parser.error("--seeds and --peer-seeds must be at least 1")
    processes.leave_on_termination()
    about = report.metadata(sys.argv)
    try:
        poise = processes.find_poise(arguments.poise)
        peers_python = (
            processes.find_peers_python(arguments.peers_python) if arguments.peers_python else None
        )
        rows = measure(
            poise, peers_python, arguments.seeds, arguments.peer_seeds, arguments.max_steps
        )
    except processes.BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    programs = ["poise"] + (["SB3 A2C"] if peers_python is not None else [])
    summary = {program: distribution(rows, program) for program in programs}
    print(
        f"\n{about['machine']['processor']}, {about['machine']['cores']} cores, {about['date']}\n"
    )
    print(
        report.table(
            ("steps to solve", "solved", "min", "10%", "median", "90%", "max", "median s"),
            [
                (
                    program,
                    f"{row['solved']}/{row['runs']}",
                    *(report.number(row[key], 0) for key in ("min", "10%", "median", "90%", "max")),
                    report.number(row["median_seconds"]),
                )
                for program, row in summary.items()
            ],
        )
    )
    for program in programs:
        print(f"\n{program}, seeds by steps to solve\n{histogram(steps_of(rows, program))}")
    notes = [*NOTES, report.disturbance([row["other_cores"] for row in rows])]
    print("\n" + "\n".join(notes))
    report.write_json(
        arguments.json,
        {
            **about,
            "notes": notes,
            "summary": {
                program: {key: report.finite(value) for key, value in row.items()}
                for program, row in summary.items()
            },
            "rows": rows,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
