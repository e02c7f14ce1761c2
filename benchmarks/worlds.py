"""Hosted environments: CartPole against SB3 A2C, processes against threads, Pong's emulation.

1. Gymnasium's Python CartPole in a loop (no twin, no vector implementation), 8 environments a
   worker, against SB3 A2C with 8 environments: at least 5 times its steps/s.
2. The processes launcher against threads, on a compiled environment with a network of a million
   parameters: at most 10% slower.
3. Pong: poise's copies, 8 in each of two threads, against ale-py's vector environment alone with 16
   copies and two threads of its own: at least as fast. Also measured: training with ale-py's XLA
   functions inside the compiled cycle (poise's default) and with its vector environment stepped
   from Python.

    python benchmarks/worlds.py --repeats 3 --seconds 10
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import report

# Below 47,500 steps SB3's training rule (100 episodes of mean 475) cannot stop the run early.
PEER_STEPS = 40_000
NEVER = str(10**12)
COMMON = ("--no-stop-when-solved", "--evaluation-interval", NEVER, "--checkpoint-every", "3600s")
SHORT = ("--selection-episodes", "2", "--verification-episodes", "2")
START_SECONDS = 12.0
"""Added to a run's budget, because the budget counts from before the worker processes start."""
LARGE_NETWORK = ("700", "700")
"""About a million parameters on CartPole, in two trunks."""
PONG_COPIES, PONG_THREADS = 8, 2
PONG_ROLLOUT = 20

NOTES = (
    "Medians over repeats; the rows of a comparison alternate. Steps per second of training leave "
    "out start-up and compilation.",
    "SB3 A2C: rl-zoo's settings for CartPole-v1, 8 environments in one process, torch's own "
    "threads.",
    "Pong: one step is 4 frames; random actions; 8 copies in each of two threads.",
)

PROBE = """
import json, sys, threading, time
import numpy as np
what, seconds, copies, threads = sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:])

def timed(step, count):
    # step() takes count steps; runs in its own thread; returns steps per second
    step(); step()
    begin = time.perf_counter(); done = 0
    while time.perf_counter() - begin < seconds:
        step(); done += count
    return done / (time.perf_counter() - begin)

def in_threads(make, count):
    rates = [0.0] * threads
    ready = threading.Barrier(threads)
    steps = [make(number) for number in range(threads)]
    def run(number):
        ready.wait(); rates[number] = timed(steps[number], count)
    team = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for one in team: one.start()
    for one in team: one.join()
    return sum(rates)

if what == "ale_alone":
    from ale_py.vector_env import AtariVectorEnv
    total = copies * threads
    env = AtariVectorEnv("pong", total, num_threads=threads, reward_clipping=False,
                         use_fire_reset=False)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    rate = timed(lambda: env.step(rng.integers(0, 6, total)), total)
else:
    from poise.config import EnvironmentChoice
    from poise.envs.env_factory import find_env_factory
    from poise.envs.registry import choose_envs
    from poise.envs.reward_shaping import RewardShaping
    env_factory = find_env_factory(EnvironmentChoice("ALE/Pong-v5"))
    envs = choose_envs(env_factory, "auto", RewardShaping())
    def make(number):
        env = envs.copies(copies); env.reset(list(range(copies)))
        rng = np.random.default_rng(number)
        return lambda: env.step(rng.integers(0, 6, copies))
    rate = in_threads(make, copies)
print(json.dumps(rate))
"""


def train(
    poise: Path, environment: str, seconds: float, cache: Path, *options: str
) -> dict[str, Any]:
    """Run ``poise train`` for some seconds in a fresh process; return figures of its summary."""
    with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as scratch:
        directory = Path(scratch) / "run"
        command = [str(poise), "train", environment, "--quiet", "--max-seconds"]
        command += [str(seconds + START_SECONDS)]
        command += [*COMMON, *SHORT, *options, "--run-dir", str(directory)]
        finished = processes.run(command, processes.poise_environment(cache))
        summary = json.loads((directory / "summary.json").read_text())
    if summary["steps_per_second"] is None:
        raise processes.BenchmarkError(f"{' '.join(command)}\nlearned nothing: --seconds is short")
    return {
        "steps_per_second": summary["steps_per_second"],
        "updates": summary["updates"],
        "launcher": summary["launcher"],
        "process": finished.costs(),
    }


def probe(what: str, seconds: float, cache: Path) -> dict[str, Any]:
    """Run one of the small loops of `PROBE` in a fresh process."""
    numbers = (seconds, PONG_COPIES, PONG_THREADS)
    command = [sys.executable, "-c", PROBE, what, *map(str, numbers)]
    finished = processes.run(command, processes.poise_environment(cache))
    return {"steps_per_second": json.loads(finished.output), "process": finished.costs()}


def measurements(
    poise: Path, peers_python: Path | None, seconds: float, cache: Path
) -> dict[str, Callable[[int], dict[str, Any]]]:
    """Return the measurements by name, in the order in which they alternate."""

    def peer(repeat: int) -> dict[str, Any]:
        assert peers_python is not None
        finished, result = processes.sb3_train(
            peers_python, "a2c", repeat, "training", max_steps=PEER_STEPS
        )
        rate = result["training_steps_per_second"]
        return {"steps_per_second": rate, "process": finished.costs()}

    def hosted(_: int) -> dict[str, Any]:
        options = ("--world", "copies", "--launcher", "auto", "--envs-per-worker", "8")
        return train(poise, "CartPole-v1", seconds, cache, *options)

    def launched(launcher: str) -> Callable[[int], dict[str, Any]]:
        options = ("--launcher", launcher, "--hidden-sizes", *LARGE_NETWORK)
        return lambda _: train(poise, "CartPole-v1", seconds, cache, *options)

    def pong(world: str) -> Callable[[int], dict[str, Any]]:
        options = ("--workers", str(PONG_THREADS), "--envs-per-worker", str(PONG_COPIES))
        options += ("--rollout-length", str(PONG_ROLLOUT), "--evaluation-step-limit", "20")
        return lambda _: train(poise, "ALE/Pong-v5", seconds, cache, "--world", world, *options)

    def probing(what: str) -> Callable[[int], dict[str, Any]]:
        return lambda _: probe(what, seconds, cache)

    found: dict[str, Callable[[int], dict[str, Any]]] = {"CartPole, hosted": hosted}
    if peers_python is not None:
        found["SB3 A2C"] = peer
    found["1M parameters, threads"] = launched("threads")
    found["1M parameters, processes"] = launched("processes")
    found["Pong, ale-py alone"] = probing("ale_alone")
    found["Pong, poise's copies"] = probing("copies")
    found["Pong, training, XLA functions"] = pong("xla")
    found["Pong, training, from Python"] = pong("atari")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each; default 8")
    parser.add_argument("--only", default="", help="measure only names that contain this text")
    parser.add_argument("--poise", type=Path, help="default: the poise beside this Python")
    parser.add_argument("--peers-python", type=Path, help="default: .venv-peers/bin/python")
    parser.add_argument("--no-peers", action="store_true", help="measure poise alone")
    parser.add_argument(
        "--json", type=Path, default=processes.ROOT / "benchmarks/results/worlds.json"
    )
    arguments = parser.parse_args()
    if arguments.repeats < 1 or not arguments.seconds > 0:
        parser.error("--repeats must be at least 1, and --seconds above 0")
    processes.leave_on_termination()
    about = report.metadata(sys.argv)
    rows: dict[str, list[dict[str, Any]]] = {}
    try:
        poise = processes.find_poise(arguments.poise)
        peers_python = (
            None if arguments.no_peers else processes.find_peers_python(arguments.peers_python)
        )
        with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as cache:
            todo = measurements(poise, peers_python, arguments.seconds, Path(cache))
            for repeat in range(arguments.repeats):
                for name, measure in todo.items():
                    if arguments.only not in name:
                        continue
                    row = measure(repeat)
                    rows.setdefault(name, []).append(row)
                    rate = report.number(row["steps_per_second"], 0)
                    report.progress(f"repeat {repeat}  {name}: {rate} steps/s")
    except processes.BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    rates = {
        name: report.median([row["steps_per_second"] for row in found])
        for name, found in rows.items()
    }

    def ratio(one: str, other: str) -> float | None:
        return report.ratio(rates.get(one), rates.get(other))

    launchers = ratio("1M parameters, processes", "1M parameters, threads")
    functions = ratio("Pong, training, XLA functions", "Pong, training, from Python")
    bars = [
        report.Bar("hosted CartPole / SB3 A2C", ratio("CartPole, hosted", "SB3 A2C"), ">=", 5, "x"),
        report.Bar("processes / threads, 1M parameters", launchers, ">=", 0.9, "x"),
        report.Bar(
            "Pong's emulation / ale-py alone",
            ratio("Pong, poise's copies", "Pong, ale-py alone"),
            ">=",
            1,
            "x",
        ),
    ]
    machine = about["machine"]
    print(f"\n{machine['processor']}, {machine['cores']} cores, {about['date']}\n")
    lines = [(name, report.number(rate, 0), str(len(rows[name]))) for name, rate in rates.items()]
    print(report.table(("", "steps/s", "runs"), lines))
    print("\n" + report.bars_table(bars) + "\n")
    notes = list(NOTES)
    if functions is not None:
        notes.append(
            "With ale-py's XLA functions inside the compiled cycle, Pong trains "
            f"{functions:.2f}x as fast as with its vector environment stepped from Python."
        )
    costs = [row["process"]["other_cores"] for found in rows.values() for row in found]
    notes.append(report.disturbance(costs))
    print("\n".join(notes))
    summary = {name: {"steps_per_second": rate} for name, rate in rates.items()}
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


if __name__ == "__main__":
    sys.exit(main())
