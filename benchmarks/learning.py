"""What `poise train ENV` reaches without flags: many environments, several seeds, verified scores.

Each row of `benchmarks/results/learning.jsonl` is one run; runs that are there already are not
repeated, so this can be stopped and started again. It writes docs/results.md at its end.

    python benchmarks/learning.py --environments Pendulum-v1 LunarLander-v3 --seeds 10

With `--algorithm a3c` it runs `poise train ENV --algorithm a3c` instead, whose rows are a table of
their own.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import processes
from poise_run import ResumableTable

RESULTS = processes.ROOT / "benchmarks" / "results" / "learning.jsonl"
ASKED = "asked_algorithm"
"""The algorithm that was asked for by a flag; rows without one lack it, or it is None."""
TABLE = ResumableTable(RESULTS, ("environment", ASKED, "seed"))
PAGE = processes.ROOT / "docs" / "results.md"


class Goal(NamedTuple):
    """What is wanted of an environment, and what Stable-Baselines3's agents reach there."""

    threshold: float
    peers: str = "-"


GOALS = {
    "CartPole-v1": Goal(475, "500 / 500"),
    "Acrobot-v1": Goal(-100, "-83 / -74"),
    "MountainCar-v0": Goal(-110, "-111 / -110"),
    "MountainCarContinuous-v0": Goal(90, "91 / 88"),
    "Pendulum-v1": Goal(-163, "-163 / -172"),
    "LunarLander-v3": Goal(200, "156 / 242"),
    "LunarLanderContinuous-v3": Goal(200, "84 / 271"),
    "BipedalWalker-v3": Goal(288, "300 / 288"),
    "InvertedPendulum-v5": Goal(950, "1000 / 1000"),
    "InvertedDoublePendulum-v5": Goal(9250, "9258 / 9231"),
    "HalfCheetah-v5": Goal(5819, "3041 / 5819"),
    "Hopper-v5": Goal(2609, "1253 / 2609"),
    "Walker2d-v5": Goal(3589, "1092 / 3589"),
    "Ant-v5": Goal(3485, "3485 / 3258"),
    "CliffWalking-v1": Goal(-13),
    "FrozenLake-v1": Goal(0.74),
    "Taxi-v4": Goal(7.5),
    "minigrid:MiniGrid-Empty-5x5-v0": Goal(0.95),
    "minigrid:MiniGrid-DoorKey-5x5-v0": Goal(0.95, "- / 0.96"),
}
INTRODUCTION = """# What `poise train ENV` reaches

Written by `python benchmarks/learning.py`, from `benchmarks/results/learning.jsonl`. Every run is
`poise train ENV --seed S` without other flags, so with poise's [preset](presets.md) for the
environment, or the defaults if there is none. Seeds are 0, 1, 2 and so on, none is left out, and
presets were chosen with other seeds. (Three were chosen again after the reported seeds had been
seen: MountainCarContinuous-v0's, with seeds 103 to 108 after seed 5 had failed, and then with seeds
101 and 102, when gSDE was built; CartPole-v1's with seeds 101 to 112, after seed 16 had taken
110,641 steps; Taxi-v4's with seeds 101 and 102, after two of three seeds had failed.) A score is
the mean return of the policy that the run saved, over at least 100 fresh episodes of Gymnasium's
own environment.

- **reached**: how many seeds reach the threshold. A run ends when a verification reaches its
  target, the threshold of most rows, so scores far above it are not to be expected; except that
  with the presets lunarlander, lunarlander-continuous and mujoco-locomotion it goes on to a
  million steps, and its best policy counts (`--stop-when-solved` ends it earlier).
- **mean**: the interquartile mean over seeds (without the lowest and the highest quarter), which a
  single seed cannot move much (Agarwal et al. 2021, arXiv 2108.13264), and the lowest seed.
- **steps, seconds**: medians over all seeds, whether or not they reached the threshold. The
  machine was shared, often by four runs on two cores, so seconds are upper bounds.
- **A2C / PPO**: figures that were published for Stable-Baselines3 and, with MuJoCo, for other
  implementations (the best of them).
"""

ABOUT_A3C = """`poise train ENV --algorithm a3c --seed S`, with the presets for A3C, which stand
beside those above; most are rl-baselines3-zoo's settings for A2C."""


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", nargs="*", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, ...")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--algorithm", choices=["a3c"], help="asked for; default: the preset's")
    parser.add_argument("--poise", type=Path, help="the poise command")
    given = parser.parse_args(arguments)
    poise = processes.find_poise(given.poise)
    wanted = [
        {"environment": environment, ASKED: given.algorithm, "seed": seed}
        for environment in given.environments
        for seed in range(given.seeds)
    ]
    asked = [] if given.algorithm is None else ["--algorithm", given.algorithm]
    TABLE.fill(poise, wanted, lambda one: ["--seed", str(one["seed"]), *asked], given.jobs)
    PAGE.write_text(page(TABLE.rows()))
    return 0


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean without the lowest and the highest quarter (rounded down) of the values."""
    cut = len(values) // 4
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Return the page's text."""
    machines = ", ".join(sorted({row["processor"] for row in rows}))
    parts = [INTRODUCTION, f"Machine: {machines}, two cores, shared."]
    parts.append(results_table([row for row in rows if row.get(ASKED) is None]))
    a3c = [row for row in rows if row.get(ASKED) == "a3c"]
    if a3c:
        parts += ["## A3C", ABOUT_A3C, results_table(a3c)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def results_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line for each environment."""
    lines = []
    for environment, goal in GOALS.items():
        found = [row for row in rows if row["environment"] == environment]
        if not found:
            continue
        means = [-math.inf if row["mean"] is None else row["mean"] for row in found]
        solved = sum(mean >= goal.threshold for mean in means)
        lines.append(
            [
                environment,
                str(found[0]["preset"] or "none"),
                found[0]["algorithm"],
                f"{goal.threshold:g}",
                f"{solved} of {len(found)}",
                f"{interquartile_mean(means):.5g} (lowest {min(means):.5g})",
                f"{statistics.median(row['steps'] for row in found):,.0f}",
                f"{statistics.median(row['seconds'] for row in found):,.0f}",
                goal.peers,
            ]
        )
    header = ("environment", "preset", "algorithm", "threshold", "reached", "mean", "steps")
    columns = [*header, "seconds", "A2C / PPO"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * 9, *lines))


if __name__ == "__main__":
    processes.leave_on_termination()
    sys.exit(main(sys.argv[1:]))
