"""How much faster more workers learn: Table 2 of the A3C paper, and its Figures 3 and 4, in small.

For each algorithm and number of workers, `poise train` runs until a verification reaches the
threshold. *Data efficiency*: one worker's steps divided by those of n workers (Figure 3: 1 if
asynchrony costs nothing). *Speed-up*: one worker's training seconds divided by those of n workers
(Table 2, Figure 4: n if it also scales). Medians over seeds; a seed that does not reach the
threshold counts as infinite. Each row of
`benchmarks/results/speedup.jsonl` is one run, and is not repeated.

    python benchmarks/speedup.py --seeds 10
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import processes
from poise_run import ResumableTable

RESULTS = processes.ROOT / "benchmarks" / "results" / "speedup.jsonl"
PAGE = processes.ROOT / "docs" / "speedup.md"
INTRODUCTION = """# More workers

Written by `python benchmarks/speedup.py`: Table 2 of the A3C paper and its Figures 3 and 4, in
small. *Data efficiency* is one worker's steps to the threshold, divided by those of n workers;
*speed-up* the same with seconds of training. Medians over seeds; a seed that does not reach the
threshold counts as infinite.
"""
TABLE = ResumableTable(RESULTS, ("environment", "algorithm", "workers", "seed"))
ENVIRONMENTS = {"CartPole-v1": 475, "Acrobot-v1": -100}
ALGORITHMS = "a3c", "nstep_q"
WORKERS = 1, 2, 4, 8, 16
COMMON = (
    *("--preset", "none", "--hidden-sizes", "64", "64", "--activation", "tanh"),
    *("--launcher", "threads", "--max-steps", "1000000"),
)


def options(one: dict[str, Any]) -> tuple[str, ...]:
    """Return the flags of one run."""
    return (
        *COMMON,
        *("--algorithm", one["algorithm"], "--workers", str(one["workers"])),
        *("--seed", str(one["seed"]), "--target-return", str(ENVIRONMENTS[one["environment"]])),
    )


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, then write the table."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    possible = [count for count in WORKERS if count <= (cores or 1)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", nargs="*", default=list(ENVIRONMENTS))
    parser.add_argument("--algorithms", nargs="*", default=list(ALGORITHMS))
    parser.add_argument("--workers", type=int, nargs="*", default=possible)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, ...")
    parser.add_argument("--poise", type=Path, help="the poise command")
    given = parser.parse_args(arguments)
    wanted = [
        {"environment": environment, "algorithm": algorithm, "workers": workers, "seed": seed}
        for environment in given.environments
        for algorithm in given.algorithms
        for seed in range(given.seeds)
        for workers in given.workers
    ]
    TABLE.fill(processes.find_poise(given.poise), wanted, options)
    PAGE.write_text(INTRODUCTION + table(TABLE.rows()))
    return 0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table, as Markdown."""
    header = ("environment", "algorithm", "workers", "reached", "steps", "data efficiency")
    lines = [(*header, "training seconds", "speed-up"), ("---",) * 8]
    for environment in ENVIRONMENTS:
        for algorithm in ALGORITHMS:
            alone: tuple[float, float] | None = None
            for workers in WORKERS:
                wanted = environment, algorithm, workers
                keys = "environment", "algorithm", "workers"
                found = [row for row in rows if tuple(row[key] for key in keys) == wanted]
                if not found:
                    continue
                steps, seconds = (_median(found, name) for name in ("steps", "training_seconds"))
                alone = alone or (steps, seconds)
                solved = sum(row["stopped"] == "solved" for row in found)
                lines.append(
                    (
                        *(environment, algorithm, str(workers), f"{solved} of {len(found)}"),
                        *(f"{steps:,.0f}", f"{alone[0] / steps:.2f}"),
                        *(f"{seconds:.2f}", f"{alone[1] / seconds:.2f}"),
                    )
                )
    return "\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _median(rows: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.median(
        row[name] if row["stopped"] == "solved" else float("inf") for row in rows
    )


if __name__ == "__main__":
    processes.leave_on_termination()
    sys.exit(main(sys.argv[1:]))
