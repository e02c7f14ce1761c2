"""How the throughput of training grows with workers, and falls with parameters: `poise train`.

CartPole-v1 with 64 environments a worker and networks of about 1 thousand to 10 million parameters,
with 1, 2 and, if there are as many cores, 4, 8 and 16 workers in threads.

    python benchmarks/scaling.py
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

import poise_run
import report
from comparison import Comparison, Given, Measurements, Row, main

HIDDEN = {"1k": 20, "10k": 66, "100k": 220, "1M": 705, "10M": 2235}
"""Units of each of the two hidden layers, for about this many parameters in two trunks."""
NEVER = str(10**12)
COMMON = (
    *("--preset", "none"),
    *("--launcher", "threads", "--envs-per-worker", "64", "--rollout-length", "20"),
    *("--no-stop-when-solved", "--evaluation-interval", NEVER, "--checkpoint-every", "3600s"),
    *("--selection-episodes", "2", "--verification-episodes", "2"),
)
NOTES = ("Environment steps trained on per second, start-up and compilation left out.",)


def measurements(given: Given) -> Measurements:
    """Return the measurements by name, in the order in which they alternate."""

    def rate(units: int, workers: int) -> Callable[[int], Row]:
        def measure(_: int) -> Row:
            sizes = "--hidden-sizes", str(units), str(units), "--workers", str(workers)
            options = *COMMON, *sizes, "--max-seconds", str(given.seconds)
            run = poise_run.train(given.poise, "CartPole-v1", options, given.cache)
            figure = run.summary["steps_per_second"]
            return {"steps_per_second": figure, "process": run.finished.costs()}

        return measure

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        f"{size} parameters, {workers} worker{'s' * (workers > 1)}": rate(units, workers)
        for size, units in HIDDEN.items()
        for workers in (1, 2, 4, 8, 16)
        if workers <= max(2, cores or 1)
    }


def bars(rates: Mapping[str, float]) -> Sequence[report.Bar]:
    """Return nothing: no figure is wanted, they are recorded."""
    del rates
    return []


if __name__ == "__main__":
    comparison = Comparison("scaling", measurements, bars, NOTES, seconds=5.0, has_peers=False)
    sys.exit(main(comparison, __doc__))
