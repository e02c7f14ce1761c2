"""Time to a verified score on LunarLander and HalfCheetah: poise and Stable-Baselines3's PPO.

LunarLander-v3 to 200 (Gymnasium's threshold), HalfCheetah-v5 to 3,041 (the best that was published
for A2C): `poise train ENV --target-return SCORE --stop-when-solved`, with its preset, from spawn to
exit, its verification on 100 episodes of Gymnasium's environment and all files included; and
Stable-Baselines3's PPO with rl-zoo's settings, from the start of its process to the check that
reaches the score, checks not counted. A run that never reaches it counts as infinite.

Runs that are in `benchmarks/results/race.jsonl` are not repeated: the peer's take up to half an
hour each.

    python benchmarks/race.py --seeds 3
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import poise_run
import processes
import report

RESULTS = processes.ROOT / "benchmarks" / "results"
ROWS = RESULTS / "race.jsonl"
TARGETS = {"LunarLander-v3": 200.0, "HalfCheetah-v5": 3041.0}
WANTED = 4.0
"""How many times faster poise is meant to be."""
POISE, PEER = "poise", "SB3 PPO"
NOTES = (
    "Medians over seeds, in seconds of wall time; poise and SB3 take turns, seed by seed.",
    "poise from spawn to exit, its verification on Gymnasium's own environment and all its files "
    "INCLUDED; SB3 from process start to the check that solves, checks and exit NOT counted.",
    "SB3 PPO: rl-zoo's settings (for HalfCheetah those of HalfCheetah-v3), checked every 20,000 "
    "steps, after 10 other episodes whose mean is not below it by more than chance.",
)

Row = dict[str, Any]


def run_poise(poise: Path, environment: str, seed: int, cache: Path) -> Row:
    """Run poise once."""
    target = str(TARGETS[environment])
    flags = ("--seed", str(seed), "--target-return", target, "--stop-when-solved")
    made = poise_run.train(poise, environment, flags, cache)
    summary = made.summary
    return {
        "solved": summary["solved"],
        "seconds": made.finished.seconds if summary["solved"] else None,
        "steps": summary["solved_at_steps"],
        "mean": (summary["evaluation"] or {}).get("mean"),
        **made.finished.costs(),
    }


def run_peer(peers_python: Path, environment: str, seed: int) -> Row:
    """Run Stable-Baselines3 once."""
    finished, result = processes.sb3_train(
        peers_python, "ppo", seed, "greedy", environment=environment
    )
    return {
        "solved": result["solved"],
        "seconds": result["seconds_from_process_start"] if result["solved"] else None,
        "steps": result["steps"] if result["solved"] else None,
        "mean": result["last_mean"],
        **finished.costs(),
    }


def fill(poise: Path, peers_python: Path, environments: Sequence[str], seeds: int) -> None:
    """Run what is missing."""
    done = {(row["environment"], row["program"], row["seed"]) for row in read()}
    with tempfile.TemporaryDirectory(prefix="poise-cache-") as scratch:
        cache = Path(scratch)
        for environment in environments:
            if all((environment, POISE, seed) in done for seed in range(seeds)):
                continue
            # So that the first timed run finds its programs compiled, like the others.
            warm = ("--seed", str(seeds), "--max-steps", "20000")
            poise_run.train(poise, environment, warm, cache)
        for environment in environments:
            for seed in range(seeds):
                for program in (POISE, PEER):
                    if (environment, program, seed) in done:
                        continue
                    if program == POISE:
                        row = run_poise(poise, environment, seed, cache)
                    else:
                        row = run_peer(peers_python, environment, seed)
                    named = {"environment": environment, "program": program, "seed": seed}
                    with ROWS.open("a") as file:
                        file.write(json.dumps({**named, **row}) + "\n")
                    report.progress(f"{named}: {row['seconds']} s, {row['steps']} steps")


def read() -> list[Row]:
    """Return all rows so far."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


def summarise(rows: Sequence[Row]) -> dict[str, Row]:
    """Return medians by environment and program; unsolved counts as infinite."""
    summary = {}
    for environment, target in TARGETS.items():
        for program in (POISE, PEER):
            group = [
                row
                for row in rows
                if (row["environment"], row["program"]) == (environment, program)
            ]
            if group:
                solved = [row["seconds"] if row["solved"] else report.UNSOLVED for row in group]
                steps = [row["steps"] if row["solved"] else report.UNSOLVED for row in group]
                summary[f"{environment} to {target:,g}, {program}"] = {
                    "median_seconds": report.median(solved),
                    "min_seconds": min(solved),
                    "max_seconds": max(solved),
                    "median_steps": report.median(steps),
                    "solved": sum(row["solved"] for row in group),
                    "runs": len(group),
                }
    return summary


def bars(summary: dict[str, Row]) -> list[report.Bar]:
    """Return how much faster poise is."""
    found = []
    for environment, target in TARGETS.items():
        ours, theirs = (
            summary.get(f"{environment} to {target:,g}, {program}") for program in (POISE, PEER)
        )
        if ours and theirs:
            ratio = report.ratio(theirs["median_seconds"], ours["median_seconds"])
            note = f"{ours['solved']} of {ours['runs']} solved, SB3 {theirs['solved']}"
            found.append(report.Bar(f"{environment} / SB3 PPO", ratio, ">=", WANTED, "x", note))
    return found


def main() -> int:
    """Run what is missing, then print and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default 3)")
    parser.add_argument("--environments", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--poise", type=Path, help="default: the poise beside this Python")
    parser.add_argument("--peers-python", type=Path, help="default: .venv-peers/bin/python")
    parser.add_argument("--json", type=Path, default=RESULTS / "race.json")
    given = parser.parse_args()
    processes.leave_on_termination()
    processes.DEADLINE_SECONDS = 2 * 3600.0
    about = report.metadata(sys.argv)
    try:
        poise = processes.find_poise(given.poise)
        peers_python = processes.find_peers_python(given.peers_python)
        fill(poise, peers_python, given.environments, given.seeds)
    except processes.BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = read()
    summary = summarise(rows)
    results = bars(summary)
    print("\n" + report.bars_table(results) + "\n")
    notes = [*NOTES, report.disturbance([row["other_cores"] for row in rows])]
    finite = {
        name: {key: report.finite(value) for key, value in row.items()}
        for name, row in summary.items()
    }
    content = {
        **about,
        "notes": notes,
        "summary": finite,
        "bars": [one.record() for one in results],
    }
    report.write_json(given.json, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
