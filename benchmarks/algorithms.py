"""All algorithms on the same environments: curves of the greedy policy, and steps to a threshold.

Each row of `benchmarks/results/algorithms.jsonl` is one run to its budget; runs that are there
already are not repeated. It writes the table and the pictures of docs/algorithms.md at its end.

    python benchmarks/algorithms.py --seeds 5 --jobs 2
"""

import argparse
import bisect
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import processes
from matplotlib.figure import Figure
from poise_run import ResumableTable

from learning import interquartile_mean

ROOT = processes.ROOT
RESULTS = ROOT / "benchmarks" / "results" / "algorithms.jsonl"
PAGE = ROOT / "docs" / "algorithms.md"
PICTURES = ROOT / "docs" / "pictures"
BEGIN, END = "<!-- results begin -->\n", "<!-- results end -->\n"
TABLE = ResumableTable(RESULTS, ("environment", "algorithm", "seed"))
POINTS = 40
"""Points of a curve."""


class Task(NamedTuple):
    """An environment, its budget in steps, and the return that counts as solved."""

    steps: int
    threshold: float


TASKS = {"CartPole-v1": Task(200_000, 475), "Acrobot-v1": Task(400_000, -100)}
COMMON = (
    *("--preset", "none", "--workers", "2", "--hidden-sizes", "64", "64", "--activation", "tanh"),
    # A target out of reach, so that nothing is verified and the run uses up its budget.
    *("--launcher", "threads", "--target-return", "1000000"),
)
SETTINGS: dict[str, tuple[str, ...]] = {
    "a3c": (),
    "a2c": (),
    "ppo": (),
    "impala": (),
    "appo": (),
    "nstep_q": (),
    "one_step_q": (),
    "one_step_sarsa": (),
}
"""Flags of each algorithm, besides those that all have in common."""


def options(one: dict[str, Any]) -> tuple[str, ...]:
    """Return the flags of one run."""
    steps = TASKS[one["environment"]].steps
    return (
        *COMMON,
        *SETTINGS[one["algorithm"]],
        *("--algorithm", one["algorithm"], "--seed", str(one["seed"])),
        *("--max-steps", str(steps), "--evaluation-interval", str(steps // POINTS)),
    )


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, then write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--algorithms", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ...")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--poise", type=Path, help="the poise command")
    given = parser.parse_args(arguments)
    wanted = [
        {"environment": environment, "algorithm": algorithm, "seed": seed}
        for environment in given.environments
        for seed in range(given.seeds)
        for algorithm in given.algorithms
    ]
    TABLE.fill(processes.find_poise(given.poise), wanted, options, given.jobs)
    write_results(TABLE.rows())
    return 0


def steps_to(curve: Sequence[Sequence[float]], threshold: float) -> float | None:
    """Return the steps of the first point of a curve that reaches a threshold."""
    return next((steps for steps, mean in curve if mean >= threshold), None)


def write_results(rows: Sequence[dict[str, Any]]) -> None:
    """Write the tables into the page, and draw the pictures."""
    parts = []
    for environment, task in TASKS.items():
        found = [row for row in rows if row["environment"] == environment]
        if found:
            parts.append(section(environment, task, found))
            draw(environment, task, found)
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(parts) + "\n" + END + after)


def section(environment: str, task: Task, rows: Sequence[dict[str, Any]]) -> str:
    """Return an environment's table and picture, as Markdown."""
    header = ("algorithm", "reached", "median steps to it", "final mean", "lowest", "steps/s")
    lines = [header, ("---",) * len(header)]
    for algorithm in SETTINGS:
        found = [row for row in rows if row["algorithm"] == algorithm]
        if not found:
            continue
        reached = [steps_to(row["curve"], task.threshold) for row in found]
        times = sorted(float("inf") if one is None else one for one in reached)
        median = statistics.median(times)
        means = [row["mean"] for row in found]
        lines.append(
            (
                algorithm,
                f"{sum(one is not None for one in reached)} of {len(found)}",
                f"{median:,.0f}" if median < float("inf") else "-",
                f"{interquartile_mean(means):.1f}",
                f"{min(means):.1f}",
                f"{statistics.median(r['steps'] / r['training_seconds'] for r in found):,.0f}",
            )
        )
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    picture = f"![Curves of {environment}](pictures/algorithms-{environment}.svg)"
    title = f"### {environment}: {task.threshold:g} within {task.steps:,} steps"
    return f"{title}\n\n{table}\n\n{picture}\n"


def draw(environment: str, task: Task, rows: Sequence[dict[str, Any]]) -> None:
    """Draw each algorithm's median over seeds, and the range between the quartiles."""
    mpl.rcParams["svg.hashsalt"] = "poise"
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    grid = [task.steps * (point + 1) // POINTS for point in range(POINTS)]
    for algorithm in SETTINGS:
        curves = [row["curve"] for row in rows if row["algorithm"] == algorithm]
        if not curves:
            continue
        columns = [sorted(value_at(curve, steps) for curve in curves) for steps in grid]
        quarter = len(curves) // 4
        (line,) = axes.plot(grid, list(map(statistics.median, columns)), label=algorithm)
        axes.fill_between(
            grid,
            [column[quarter] for column in columns],
            [column[-1 - quarter] for column in columns],
            color=line.get_color(),
            alpha=0.15,
            linewidth=0,
        )
    axes.axhline(task.threshold, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="environment steps", ylabel="mean return, greedy", title=environment)
    axes.legend(fontsize="small", ncols=2)
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / f"algorithms-{environment}.svg", metadata={"Date": None})


def value_at(curve: Sequence[Sequence[float]], steps: int) -> float:
    """Return the last evaluation at or before a number of steps; before the first, the first."""
    place = bisect.bisect_right([point[0] for point in curve], steps)
    return float(curve[max(0, place - 1)][1])


if __name__ == "__main__":
    processes.leave_on_termination()
    sys.exit(main(sys.argv[1:]))
