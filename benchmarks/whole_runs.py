"""Whole runs of `poise train`: against two ceilings, and what evaluations take.

1. CartPole-v1 with 2 workers x 64 environments and rollouts of 20: steps per second of a whole run
   without evaluations, against `peers/minimal_a3c.py`: at least 0.9 times.
2. CartPole-v1 with PPO and PureJaxRL's settings, 500,000 steps: steps per second of a whole run
   without evaluations, against all of training in one XLA program (`peers/fused_ppo.py`).
3. Default runs that do not stop when solved, CartPole-v1 (400,000 steps) and LunarLander-v3
   (300,000): the share of the wall time that selection and verification take: at most a tenth.

    python benchmarks/whole_runs.py
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import poise_run
import processes
import report
from comparison import Comparison, Given, Measurements, Row, main, ratio

PEERS = Path(__file__).resolve().parent / "peers"
STEPS = "4000000"
NEVER = str(10**12)
UNEVALUATED = (
    *("--preset", "none"),  # the defaults, as measured before there were presets
    *("--evaluation-interval", NEVER, "--checkpoint-every", "3600s"),
    *("--selection-episodes", "2", "--verification-episodes", "2"),
)
BARE = (
    *UNEVALUATED,
    *("--workers", "2", "--envs-per-worker", "64", "--rollout-length", "20", "--max-steps", STEPS),
)
PPO_STEPS = "500000"
AS_PUREJAXRL = (
    *UNEVALUATED,
    *("--algorithm", "ppo", "--workers", "1", "--envs-per-worker", "4", "--rollout-length", "128"),
    *("--epochs", "4", "--minibatches", "4", "--max-steps", PPO_STEPS),
    *("--learning-rate", "2.5e-4", "--learning-rate-schedule", "linear", "--adam-beta1", "0.9"),
    *("--discount", "0.99", "--gae-lambda", "0.95", "--entropy-coefficient", "0.01"),
    *("--max-gradient-norm", "0.5", "--hidden-sizes", "64", "64", "--activation", "tanh"),
)
EVALUATED = {"CartPole-v1": "400000", "LunarLander-v3": "300000"}
FUSED = "CartPole-v1, PPO, 1 x 4, one program as in PureJaxRL"
NOTES = (
    "Whole runs: steps per second of training, from the first update to the last.",
    "CartPole 2 x 64: the minimal loop is compiled with XLA's own options, poise with options that "
    "compile in a third of that time. A first version of the loop (298,139 steps/s) was no "
    "ceiling: it had poise's options, with which its cycle takes 1.5 to 2 times as long.",
    "Share of evaluations: selection and verification over the wall time of the process, the last "
    "verification (100 episodes) included.",
)


def train(given: Given, environment: str, *options: str) -> tuple[processes.Finished, Row]:
    """Run `poise train` to its budget; return its timing and its summary."""
    options = "--no-stop-when-solved", *options
    run = poise_run.train(given.poise, environment, options, given.cache)
    return run.finished, run.summary


def measurements(given: Given) -> Measurements:
    """Return the measurements by name, in the order in which they alternate."""

    def bare(repeat: int) -> Row:
        finished, summary = train(given, "CartPole-v1", *BARE, "--seed", str(repeat))
        return {"figure": summary["steps_per_second"], "process": finished.costs()}

    def peer(python: Path, script: str, *options: str) -> Row:
        command = [str(python), str(PEERS / script), *options]
        finished = processes.run(command, processes.poise_environment(given.cache))
        found = json.loads(finished.output)
        return {"figure": found["steps_per_second"], **found, "process": finished.costs()}

    def minimal(_: int) -> Row:
        return peer(Path(sys.executable), "minimal_a3c.py", "--steps", STEPS)

    def as_purejaxrl(repeat: int) -> Row:
        finished, summary = train(given, "CartPole-v1", *AS_PUREJAXRL, "--seed", str(repeat))
        found = {"mean_return_100": summary["training_mean_100"], "seconds": finished.seconds}
        return {"figure": summary["steps_per_second"], **found, "process": finished.costs()}

    def purejaxrl(repeat: int) -> Row:
        assert given.peers_python is not None
        options = "--steps", PPO_STEPS, "--seed", str(repeat)
        return peer(given.peers_python, "fused_ppo.py", *options)

    def share(environment: str, steps: str) -> Callable[[int], Row]:
        def measure(repeat: int) -> Row:
            options = "--max-steps", steps, "--seed", str(repeat)
            finished, summary = train(given, environment, *options)
            seconds = summary["seconds"]
            spent = seconds["selection"] + seconds["verification"]
            costs = finished.costs()
            return {"figure": spent / finished.seconds, "seconds": seconds, "process": costs}

        return measure

    return {
        "CartPole-v1, 2 x 64, steps/s": bare,
        "CartPole-v1, 2 x 64, the least that A3C can be": minimal,
        "CartPole-v1, PPO, 1 x 4, steps/s": as_purejaxrl,
        **({FUSED: purejaxrl} if given.peers_python is not None else {}),
        **{
            f"{name}, {int(steps):,} steps, share of evaluations": share(name, steps)
            for name, steps in EVALUATED.items()
        },
    }


def bars(figures: Mapping[str, float]) -> Sequence[report.Bar]:
    """Return what is wanted."""
    whole, least, ppo, *shares = measurements(Given(Path(), None, 0.0, Path()))
    return [
        report.Bar("whole run / the least", ratio(figures, whole, least), ">=", 0.9, "x"),
        report.Bar("PPO / one program", ratio(figures, ppo, FUSED), ">=", 1.0, "x"),
        *(report.Bar(name, figures.get(name), "<=", 0.1, "") for name in shares),
    ]


if __name__ == "__main__":
    comparison = Comparison("whole_runs", measurements, bars, NOTES, number="figure")
    sys.exit(main(comparison, __doc__))
