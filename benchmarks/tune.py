"""Search for a preset's settings with Optuna: `poise train` on seeds that no result uses.

A trial runs its seeds one after the other and is given up when it is worse than the median of the
trials before it (Optuna's MedianPruner). It is scored by the mean of the verified scores or, where
that reaches the target, by how few steps that took. Trials are kept in a journal file, so a search
can be stopped, started again, and run by several processes at once. The best one is printed as a
preset.

    pip install optuna
    python benchmarks/tune.py LunarLander-v3 --algorithm ppo --max-steps 500000 --trials 50
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import poise_run
import processes

FIRST_SEED = 101
"""Results are reported for the seeds below."""


def suggest(trial: Any, algorithm: str) -> dict[str, Any]:
    """Draw the settings of a trial."""
    chosen: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "learning_rate_schedule": trial.suggest_categorical(
            "learning_rate_schedule", ["constant", "linear"]
        ),
        "discount": 1 - trial.suggest_float("1 - discount", 1e-3, 5e-2, log=True),
        "envs_per_worker": trial.suggest_categorical("envs_per_worker", [4, 8, 16, 32]),
        "rollout_length": trial.suggest_categorical("rollout_length", [5, 16, 32, 128, 256]),
        "max_gradient_norm": trial.suggest_categorical("max_gradient_norm", [0.5, 1.0, 5.0]),
        "activation": trial.suggest_categorical("activation", ["tanh", "relu"]),
    }
    width = trial.suggest_categorical("width", [32, 64, 128, 256])
    chosen["hidden_sizes"] = [width] * trial.suggest_int("layers", 1, 2)
    if algorithm in ("nstep_q", "one_step_q", "one_step_sarsa"):
        chosen["target_interval"] = trial.suggest_int("target_interval", 200, 20_000, log=True)
        steps = trial.suggest_int("exploration_steps", 5_000, 200_000, log=True)
        return {**chosen, "exploration_steps": steps}
    chosen["gae_lambda"] = trial.suggest_categorical("gae_lambda", [0.9, 0.95, 0.98, 1.0])
    chosen["entropy_coefficient"] = trial.suggest_float("entropy", 1e-5, 0.1, log=True)
    if algorithm in ("ppo", "appo"):
        chosen["epochs"] = trial.suggest_categorical("epochs", [1, 4, 10, 20])
        chosen["minibatches"] = trial.suggest_categorical("minibatches", [1, 2, 4, 10, 20])
        chosen["clip_range"] = trial.suggest_categorical("clip_range", [0.1, 0.2, 0.3])
    return chosen


def flags(settings: dict[str, Any]) -> list[str]:
    """Return settings as flags of `poise train`."""
    written = []
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        written += ["--" + name.replace("_", "-"), *map(str, values)]
    return written


def preset(environment: str, settings: dict[str, Any], about: str) -> str:
    """Return settings as a preset file."""

    def toml(value: Any) -> str:
        return f'"{value}"' if isinstance(value, str) else str(value)

    lines = ["format_version = 1", f'environments = ["{environment}"]', f'reached = "{about}"']
    lines += ["", "[settings]", *(f"{name} = {toml(value)}" for name, value in settings.items())]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Search, then print the best preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment")
    parser.add_argument("--algorithm", default="a3c")
    parser.add_argument("--max-steps", type=int, default=500_000)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=2, help=f"from {FIRST_SEED} on")
    parser.add_argument("--journal", type=Path, help="default: tune-ENVIRONMENT-ALGORITHM.log")
    parser.add_argument("--poise", type=Path, help="the poise command")
    given, more = parser.parse_known_args(arguments)
    try:
        import optuna  # noqa: PLC0415 - not a dependency of poise
    except ImportError:
        parser.error("this needs Optuna: pip install optuna")

    poise = processes.find_poise(given.poise)
    processes.DEADLINE_SECONDS = 6 * 3600.0
    name = f"{given.environment}-{given.algorithm}".replace("/", "-")
    backend = optuna.storages.journal.JournalFileBackend(
        str(given.journal or Path(f"tune-{name}.log"))
    )
    study = optuna.create_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(backend),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    shared = ["--algorithm", given.algorithm, "--max-steps", str(given.max_steps), *more]

    def objective(trial: Any) -> float:
        settings = suggest(trial, given.algorithm)
        trial.set_user_attr("settings", settings)
        scores = []
        with tempfile.TemporaryDirectory(prefix="poise-cache-") as cache:
            for index in range(given.seeds):
                options = ["--preset", "none", *shared, *flags(settings)]
                options += ["--seed", str(FIRST_SEED + index)]
                try:
                    run = poise_run.train(poise, given.environment, options, Path(cache))
                except processes.BenchmarkError as error:
                    # For example minibatches that do not divide the batch.
                    raise optuna.TrialPruned(str(error)[-500:]) from error
                scores.append(score(run, given.max_steps))
                trial.report(statistics.fmean(scores), index)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return statistics.fmean(scores)

    study.optimize(objective, n_trials=given.trials)
    best = study.best_trial
    settings = {"algorithm": given.algorithm, **best.user_attrs["settings"]}
    about = f"{best.value:.4g} in trial {best.number} of a search, seeds from {FIRST_SEED} on"
    print(preset(given.environment, settings, about), end="")
    return 0


def score(run: poise_run.PoiseRun, budget: int) -> float:
    """Return the verified score, and more for reaching the target in fewer steps."""
    row = run.row()
    mean = row["mean"] if row["mean"] is not None else row["training_mean_100"]
    if row["stopped"] != "solved":
        return float(mean)
    target = float(run.resolved["target_return"])
    return target + (1 - min(1.0, row["steps"] / budget)) * abs(target)


if __name__ == "__main__":
    processes.leave_on_termination()
    sys.exit(main(sys.argv[1:]))
