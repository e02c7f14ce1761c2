#!/usr/bin/env python
"""Soak: what grows when poise runs for long, or is called often in one process.

    python scripts/soak.py --minutes 30 --json soak_run.json     one long run
    python scripts/soak.py --calls 200 --json soak_calls.json    many short ones in one process

Sampled are resident memory, threads, open files and speed; printed are the medians of the first and
of the last quarter of the samples.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import poise

INTERVAL = 10.0
"""Seconds between two samples of a long run."""
BILLION = 1_000_000_000


def resources() -> dict[str, float]:
    """Of this process: resident memory (MB), threads, open files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "resident_mb": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "open_files": len(os.listdir("/proc/self/fd")),
    }


class Watch:
    """Samples a long run from a thread of its own."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []
        self.steps = 0
        self.seconds_to_billion: float | None = None
        self._began: float | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def follow(self, when: float, event: Any) -> None:
        """A callback."""
        steps = getattr(event, "steps", None)
        if steps is None:
            return
        if self._began is None:
            self._began = when
            self._thread.start()
        self.steps = max(self.steps, steps)
        if self.steps >= BILLION and self.seconds_to_billion is None:
            self.seconds_to_billion = when - self._began
        if type(event).__name__ == "Stopped":
            self._end.set()

    def _sample(self) -> None:
        before, steps = time.monotonic(), self.steps
        while not self._end.wait(INTERVAL):
            now, then = time.monotonic(), self.steps
            speed = (then - steps) / (now - before)
            self.samples.append({**resources(), "steps_per_second": speed})
            before, steps = now, then


def long_run(minutes: float, scratch: Path) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """One compiled CartPole run that nothing but the time ends."""
    watch = Watch()
    result = poise.train(
        "CartPole-v1",
        run_dir=scratch / "run",
        envs_per_worker=64,
        rollout_length=20,
        max_seconds=minutes * 60,
        stop_when_solved=False,
        evaluation_interval=10**15,
        record_every=1000,
        callbacks=[watch.follow],
    )
    sizes = {
        f"{name}_mb": round((result.folder / name).stat().st_size / 2**20, 1)
        for name in ("journal", "metrics.jsonl")
    }
    facts = {
        "steps": result.summary["steps"],
        "updates": result.summary["updates"],
        "training_seconds": result.summary["training_seconds"],
        "seconds_to_10^9_steps": watch.seconds_to_billion,
        "resident_mb_after_the_end": round(resources()["resident_mb"], 1),
        **sizes,
    }
    return watch.samples, facts


def many_calls(calls: int, scratch: Path) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Tiny runs, one after the other."""
    samples = []
    for number in range(calls):
        began = time.monotonic()
        result = poise.train(
            "CartPole-v1",
            run_dir=scratch / f"run{number}",
            seed=number,
            workers=2,
            max_steps=2000,
            evaluation_interval=1000,
            selection_episodes=2,
            verification_episodes=2,
        )
        seconds = time.monotonic() - began
        for path in sorted(result.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        samples.append(
            {
                **resources(),
                "steps_per_second": result.summary["steps_per_second"],
                "seconds_a_call": seconds,
            }
        )
        if sys.stdout.isatty():
            print(f"\r{number + 1} of {calls}", end="", flush=True)
    # The first calls compile, import and fill caches that are meant to be filled.
    return samples[1:], {"calls": calls}


def quarters(samples: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Medians of the first and of the last quarter, for each figure."""
    length = max(1, len(samples) // 4)
    return {
        name: (
            statistics.median(one[name] for one in samples[:length]),
            statistics.median(one[name] for one in samples[-length:]),
        )
        for name in samples[0]
    }


def main() -> int:
    """Soak, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--minutes", type=float, help="length of one long run")
    what.add_argument("--calls", type=int, help="number of short runs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="poise-soak-") as scratch:
        if arguments.calls:
            samples, facts = many_calls(arguments.calls, Path(scratch))
        else:
            samples, facts = long_run(arguments.minutes, Path(scratch))
    if not samples:
        print("too short: there is no sample", file=sys.stderr)
        return 2
    medians = quarters(samples)
    print(f"\n{'':20s} {'first quarter':>16s} {'last quarter':>16s} {'change':>9s}")
    for name, (first, last) in medians.items():
        print(f"{name:20s} {first:16,.1f} {last:16,.1f} {last / first - 1:9.1%}")
    for name, value in facts.items():
        print(f"{name}: {value}")
    if arguments.json:
        content = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "command": " ".join(sys.argv),
            **facts,
            "medians": {name: {"first": a, "last": b} for name, (a, b) in medians.items()},
            "samples": samples,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
