"""Time to solve CartPole-v1: poise and Stable-Baselines3 (A2C and PPO), in the same run.

There are two rules, and for each poise is compared with the faster peer:

(i)  verified: the greedy policy's mean over fresh episodes is at least 475. Poise is timed from
     outside, from spawn to exit, with everything written and its own verification on Gymnasium's
     environment included; the peers' checks and their exit are subtracted.
(ii) training: the last 100 finished training episodes have a mean of at least 475, counted from
     the start of the process to that moment, for poise and the peers alike.

    python benchmarks/time_to_solve.py --seeds 5
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import processes
import report

# Rows, in the order in which each seed runs them.
POISE_COLD = "(i) poise, cold cache"
POISE_WARM = "(i) poise, warm cache"
A2C_GREEDY = "(i) SB3 A2C"
PPO_GREEDY = "(i) SB3 PPO"
POISE_TRAINING_COLD = "(ii) poise, cold cache"
POISE_TRAINING_WARM = "(ii) poise, warm cache"
A2C_TRAINING = "(ii) SB3 A2C"
PPO_TRAINING = "(ii) SB3 PPO"

PEER_ROWS = {
    A2C_GREEDY: ("a2c", "greedy"),
    PPO_GREEDY: ("ppo", "greedy"),
    A2C_TRAINING: ("a2c", "training"),
    PPO_TRAINING: ("ppo", "training"),
}
# Rule (ii) needs training to go on past the verified stop.
TRAINING_OPTIONS = ("--no-stop-when-solved", "--max-steps", "2000000")

NOTES = (
    "Medians over seeds; the rows are interleaved, seed by seed. Seconds of wall time.",
    "Rule (i): poise from spawn to exit, its verification on Gymnasium's own environment and all "
    "its files INCLUDED; SB3 from process start to the solving check, checks and exit NOT counted. "
    "The difference is to poise's disadvantage.",
    "Rule (ii): from process start to the moment the last 100 training episodes average 475; no "
    "checks on SB3's clock.",
    "Cold: an empty cache directory for every run. Warm: one directory, filled by untimed runs "
    "with another seed. SB3 compiles nothing; one untimed run warms the file system for it.",
)

Row = dict[str, Any]


def verified_row(row: str, poise: Path, seed: int, cache_home: Path) -> Row:
    """Run poise by rule (i)."""
    finished, summary = processes.poise_train(poise, seed, cache_home)
    return {
        "row": row,
        "seed": seed,
        "solved": summary["solved"],
        "seconds": finished.seconds if summary["solved"] else None,
        "steps": summary["solved_at_steps"],
        **finished.costs(),
        "summary": summary,
    }


def training_row(row: str, poise: Path, seed: int, cache_home: Path) -> Row:
    """Run poise by rule (ii)."""
    finished, summary = processes.poise_train(poise, seed, cache_home, TRAINING_OPTIONS)
    return {
        "row": row,
        "seed": seed,
        "solved": summary["training_solved_at_seconds"] is not None,
        "seconds": summary["training_solved_at_seconds"],
        "steps": summary["training_solved_at_steps"],
        **finished.costs(),
        "summary": summary,
    }


def peer_row(row: str, peers_python: Path, seed: int) -> Row:
    """Run a peer by the row's rule."""
    algorithm, rule = PEER_ROWS[row]
    finished, result = processes.sb3_train(peers_python, algorithm, seed, rule)
    return {
        "row": row,
        "seed": seed,
        "solved": result["solved"],
        "seconds": result["seconds_from_process_start"] if result["solved"] else None,
        "steps": result["steps"] if result["solved"] else None,
        **finished.costs(),
        "summary": result,
    }


def measure(poise: Path, peers_python: Path | None, seeds: int) -> list[Row]:
    """Run every row for every seed, interleaved, and return the raw rows."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as scratch:
        warm = Path(scratch) / "warm"
        report.progress("warming up (not timed)")
        processes.poise_train(poise, seeds, warm)
        processes.poise_train(poise, seeds, warm, TRAINING_OPTIONS)
        if peers_python is not None:
            processes.sb3_train(peers_python, "ppo", seeds, "training", max_steps=1_000)
        for seed in range(seeds):
            cold = Path(scratch) / f"cold-{seed}"  # each rule's own, else the second found it warm
            cold_training = Path(scratch) / f"cold-training-{seed}"
            order = [
                partial(verified_row, POISE_COLD, poise, seed, cold),
                partial(verified_row, POISE_WARM, poise, seed, warm),
                partial(peer_row, A2C_GREEDY, peers_python, seed),
                partial(peer_row, PPO_GREEDY, peers_python, seed),
                partial(training_row, POISE_TRAINING_COLD, poise, seed, cold_training),
                partial(training_row, POISE_TRAINING_WARM, poise, seed, warm),
                partial(peer_row, A2C_TRAINING, peers_python, seed),
                partial(peer_row, PPO_TRAINING, peers_python, seed),
            ]
            for measure_row in order:
                if peers_python is None and measure_row.func is peer_row:
                    continue
                row = measure_row()
                rows.append(row)
                report.progress(f"seed {seed}  {row['row']}: {told(row)}")
    return rows


def told(row: Row) -> str:
    """Return a row's outcome in a few words."""
    if not row["solved"]:
        return f"unsolved in {row['process_seconds']:.2f} s"
    return f"{row['seconds']:.2f} s, {row['steps']:,} steps"


def summarise(rows: Sequence[Row]) -> dict[str, Row]:
    """Return, for each row, medians and extremes over its seeds; unsolved counts as infinite."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["row"], []).append(row)
    summary = {}
    for name, group in groups.items():
        seconds = [row["seconds"] if row["solved"] else report.UNSOLVED for row in group]
        steps = [row["steps"] if row["solved"] else report.UNSOLVED for row in group]
        summary[name] = {
            "median_seconds": report.median(seconds),
            "min_seconds": min(seconds),
            "max_seconds": max(seconds),
            "median_steps": report.median(steps),
            "solved": sum(row["solved"] for row in group),
            "runs": len(group),
            "peak_memory_mib": max(row["peak_memory_mib"] for row in group),
        }
    return summary


def bars(summary: dict[str, Row]) -> list[report.Bar]:
    """Return poise's bars: its own times, and how much faster it is than the faster peer."""

    def seconds(row: str) -> float | None:
        return summary[row]["median_seconds"] if row in summary else None

    def faster(*rows: str) -> float | None:
        return min((seconds(row) for row in rows if row in summary), default=None)

    verified = faster(A2C_GREEDY, PPO_GREEDY)
    training = faster(A2C_TRAINING, PPO_TRAINING)

    def note(row: str) -> str:
        return f"{summary[row]['solved']} of {summary[row]['runs']} solved"

    def at_most(row: str, threshold: float) -> report.Bar:
        return report.Bar(row, seconds(row), "<=", threshold, " s", note(row))

    def faster_by(row: str, peer: float | None, threshold: float) -> report.Bar:
        name = f"{row}: faster than the faster SB3"
        return report.Bar(name, report.ratio(peer, seconds(row)), ">=", threshold, "x", note(row))

    return [
        at_most(POISE_COLD, 4),
        at_most(POISE_WARM, 2.5),
        faster_by(POISE_COLD, verified, 2),
        faster_by(POISE_WARM, verified, 4),
        faster_by(POISE_TRAINING_COLD, training, 5),
        faster_by(POISE_TRAINING_WARM, training, 5),
    ]


def summary_table(summary: dict[str, Row]) -> str:
    """Return the table of rows."""
    return report.table(
        ("rule, program", "median s", "min s", "max s", "median steps", "solved", "peak MiB"),
        [
            (
                name,
                report.number(row["median_seconds"]),
                report.number(row["min_seconds"]),
                report.number(row["max_seconds"]),
                report.number(row["median_steps"], 0),
                f"{row['solved']}/{row['runs']}",
                report.number(row["peak_memory_mib"], 0),
            )
            for name, row in summary.items()
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default 5)")
    parser.add_argument("--poise", type=Path, help="default: the poise beside this Python")
    parser.add_argument("--peers-python", type=Path, help="default: .venv-peers/bin/python")
    parser.add_argument("--no-peers", action="store_true", help="measure poise alone")
    parser.add_argument(
        "--json", type=Path, default=processes.ROOT / "benchmarks/results/time_to_solve.json"
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds is {arguments.seeds}; it must be at least 1")
    processes.leave_on_termination()
    about = report.metadata(sys.argv)
    try:
        poise = processes.find_poise(arguments.poise)
        peers_python = (
            None if arguments.no_peers else processes.find_peers_python(arguments.peers_python)
        )
        rows = measure(poise, peers_python, arguments.seeds)
    except processes.BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    summary = summarise(rows)
    results = bars(summary)
    print(
        f"\n{about['machine']['processor']}, {about['machine']['cores']} cores, {about['date']}\n"
    )
    print(summary_table(summary))
    print("\n" + report.bars_table(results) + "\n")
    notes = [*NOTES, report.disturbance([row["other_cores"] for row in rows])]
    print("\n".join(notes))
    report.write_json(
        arguments.json,
        {
            **about,
            "notes": notes,
            "summary": {
                name: {key: report.finite(value) for key, value in row.items()}
                for name, row in summary.items()
            },
            "bars": [bar.record() for bar in results],
            "rows": rows,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
