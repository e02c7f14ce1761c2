"""Training throughput in environment steps per second: `poise bench` compared with SB3 A2C.

The two alternate, `--repeats` times, and the table shows medians. Both figures exclude the start of
the process; both include acting, learning and the environments.

    python benchmarks/throughput.py --repeats 3
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import processes
import report

BAR_ENVIRONMENTS = 64  # environments a worker at which the bars are set
# Below 47,500 steps SB3's training rule (100 episodes of mean 475) cannot stop the run early.
PEER_STEPS = 40_000

NOTES = (
    "Medians over repeats; poise and SB3 alternate. Environment steps trained on, per second of "
    "training, start-up and compilation left out.",
    "SB3 A2C: rl-zoo's settings for CartPole-v1, 8 environments in one process, torch's own "
    "threads.",
)


def poise_bench(poise: Path, cache_home: Path) -> dict[str, Any]:
    """Run `poise bench --json` and return what it printed."""
    finished = processes.run(
        [str(poise), "bench", "--json"], processes.poise_environment(cache_home)
    )
    try:
        result = json.loads(finished.output)
        result["rows"], result["fused_loop_steps_per_second"]
    except (ValueError, KeyError, TypeError) as error:
        raise processes.BenchmarkError(
            f"poise bench --json did not print the object expected ({error!r}): "
            f"{finished.output[:300]!r}"
        ) from error
    return {**result, "process": finished.costs()}


def measure(
    poise: Path, peers_python: Path | None, repeats: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Alternate poise and SB3; return their raw results."""
    benches, peers = [], []
    with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as scratch:
        for repeat in range(repeats):
            benches.append(poise_bench(poise, Path(scratch)))
            report.progress(f"repeat {repeat}  poise bench")
            if peers_python is not None:
                finished, result = processes.sb3_train(
                    peers_python, "a2c", repeat, "training", max_steps=PEER_STEPS
                )
                peers.append({**result, "process": finished.costs()})
                rate = report.number(result["training_steps_per_second"], 0)
                report.progress(f"repeat {repeat}  SB3 A2C: {rate} steps/s")
    return benches, peers


def medians(benches: list[dict[str, Any]]) -> dict[tuple[int, int], float]:
    """Return the median steps per second by (workers, environments a worker)."""
    rates: dict[tuple[int, int], list[float]] = {}
    for bench in benches:
        for row in bench["rows"]:
            key = (row["workers"], row["envs_per_worker"])
            rates.setdefault(key, []).append(row["steps_per_second"])
    return {key: report.median(values) for key, values in sorted(rates.items())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    parser.add_argument("--poise", type=Path, help="default: the poise beside this Python")
    parser.add_argument("--peers-python", type=Path, help="default: .venv-peers/bin/python")
    parser.add_argument("--no-peers", action="store_true", help="measure poise alone")
    parser.add_argument(
        "--json", type=Path, default=processes.ROOT / "benchmarks/results/throughput.json"
    )
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error(f"--repeats is {arguments.repeats}; it must be at least 1")
    processes.leave_on_termination()
    about = report.metadata(sys.argv)
    try:
        poise = processes.find_poise(arguments.poise)
        peers_python = (
            None if arguments.no_peers else processes.find_peers_python(arguments.peers_python)
        )
        benches, peers = measure(poise, peers_python, arguments.repeats)
    except processes.BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    rates = medians(benches)
    fused = report.median([bench["fused_loop_steps_per_second"] for bench in benches])
    peer = report.median([row["training_steps_per_second"] for row in peers]) if peers else None
    one, two = rates.get((1, BAR_ENVIRONMENTS)), rates.get((2, BAR_ENVIRONMENTS))
    where = f"{BAR_ENVIRONMENTS} environments a worker"
    bars = [
        report.Bar("steps/s, two workers", two, ">", 1_000_000, "", where),
        report.Bar("two workers / one", report.ratio(two, one), ">=", 1.7, "x", where),
    ]
    summary = [
        {
            "program": "poise",
            "workers": workers,
            "envs_per_worker": environments,
            "steps_per_second": rate,
            "ratio_to_one_worker": report.ratio(rate, rates.get((1, environments))),
            "share_of_fused_loop": rate / fused,
            "ratio_to_sb3_a2c": report.ratio(rate, peer),
        }
        for (workers, environments), rate in rates.items()
    ]
    lines = [
        (
            f"poise, {row['workers']} x {row['envs_per_worker']}",
            report.number(row["steps_per_second"], 0),
            report.number(row["ratio_to_one_worker"]),
            report.number(row["share_of_fused_loop"]),
            report.number(row["ratio_to_sb3_a2c"], 0),
        )
        for row in summary
    ]
    lines.append(
        (
            "poise, fused loop",
            report.number(fused, 0),
            "-",
            report.number(1.0),
            report.number(report.ratio(fused, peer), 0),
        )
    )
    if peer is not None:
        lines.append(("SB3 A2C, 8 environments", report.number(peer, 0), "-", "-", "1"))
    print(
        f"\n{about['machine']['processor']}, {about['machine']['cores']} cores, {about['date']}\n"
    )
    print(
        report.table(
            ("workers x environments", "steps/s", "x one worker", "x fused loop", "x SB3 A2C"),
            lines,
        )
    )
    print("\n" + report.bars_table(bars) + "\n")
    disturbance = report.disturbance([run["process"]["other_cores"] for run in (*benches, *peers)])
    notes = [*NOTES, disturbance]
    print("\n".join(notes))
    report.write_json(
        arguments.json,
        {
            **about,
            "notes": notes,
            "summary": summary,
            "fused_loop_steps_per_second": fused,
            "sb3_a2c_steps_per_second": peer,
            "bars": [bar.record() for bar in bars],
            "poise_bench": benches,
            "sb3_a2c": peers,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
