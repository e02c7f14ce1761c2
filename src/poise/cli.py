"""The command line: parse, call one function of `poise.runs`, print.

JAX takes most of a second to import, so it is imported only by the commands that need it.
"""

import atexit
import contextlib
import dataclasses
import errno
import io
import json
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from poise.config import TrainConfig, usable_cores
from poise.errors import ConfigError, PoiseError, WorkerError

__all__ = ["main", "run"]

INTERRUPTED, TERMINATED = 130, 143
_BAD_PATHS = (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EISDIR)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train an agent until it solves the environment or a budget is used up."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """Settings of the run."""

    run_dir: Path | None = None
    """New folder for the run. Default: one below runs/, named after environment and seed."""

    quiet: bool = False
    """Print nothing."""

    tensorboard: bool = False
    """Write TensorBoard event files into the run's folder, too."""

    def __call__(self) -> int:
        """Train; exit code 0, or 130 and 143 where a signal ended the run."""
        from poise.runs.plotter import Plotter  # noqa: PLC0415

        with Plotter() as draw:
            from poise.runs.runtime import process_age  # noqa: PLC0415
            from poise.runs.training import train_config  # noqa: PLC0415

            result = train_config(
                self.config,
                run_dir=self.run_dir,
                quiet=self.quiet,
                draw=draw,
                tensorboard=self.tensorboard,
                process_age=process_age(),
            )
        return _end(result, self.quiet)


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with a run from its newest checkpoint; before the first, start it over."""

    run: Positional[Path]
    """A run's folder."""

    max_steps: int | None = None
    """A new budget in environment steps, counted from the run's beginning."""

    max_episodes: int | None = None
    """A new budget in finished training episodes, counted from the run's beginning."""

    max_seconds: float | None = None
    """A new budget in seconds of training, counted from now."""

    quiet: bool = False
    """Print nothing."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Go on; exit codes as of train."""
        from poise.runs.runtime import process_age  # noqa: PLC0415
        from poise.runs.training import resume  # noqa: PLC0415

        result = resume(
            self.run,
            quiet=self.quiet,
            max_steps=self.max_steps,
            max_episodes=self.max_episodes,
            max_seconds=self.max_seconds,
            trust=self.trust,
            process_age=process_age(),
        )
        return _end(result, self.quiet)


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show the batch whose gradient was not finite: which arrays, and what is wrong with them."""

    run: Positional[Path]
    """A run's folder."""

    def __call__(self) -> int:
        """Print a row an array, the broken ones first."""
        from poise.runs.bad_batch import inspect_batch  # noqa: PLC0415

        reports = inspect_batch(self.run)
        print("not finite       minimum       maximum  array")
        for row in reports:
            print(
                f"{row.not_finite:10d}  {row.minimum:12.5g}  {row.maximum:12.5g}  {row.name} "
                f"{list(row.shape)}"
            )
        return 0


@dataclasses.dataclass(frozen=True)
class Random:
    """The baseline: uniformly random actions on Gymnasium's own environment."""

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id of the environment."""

    episodes: int = 100
    """Episodes to play."""

    seed: int = 0
    """Root of the episodes' seeds."""

    step_limit: int = TrainConfig.evaluation_step_limit
    """An episode is cut after so many steps, and counted as cut."""

    json: bool = False
    """Print one JSON object."""

    def __call__(self) -> int:
        """Play and print the score."""
        from poise.runs.api import random_baseline  # noqa: PLC0415

        score = random_baseline(
            self.environment,
            episodes=self.episodes,
            seed=self.seed,
            step_limit=self.step_limit,
        )
        _print_score(self.environment, "random actions", score, None, self.json)
        return 0


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a run's policy on fresh episodes of Gymnasium's own environment."""

    run: Positional[Path]
    """A run's folder, or a policy file."""

    episodes: int = 100
    """Episodes to play, each with a seed of its own."""

    sampled: bool = False
    """Sample actions instead of taking the most probable one."""

    which: Literal["best", "final"] = "best"
    """The policy that evaluation selected, or the last one."""

    seed: int = 0
    """Root of the episodes' seeds and of the sampling."""

    step_limit: int = TrainConfig.evaluation_step_limit
    """An episode is cut after so many steps, and counted as cut."""

    json: bool = False
    """Print one JSON object."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Evaluate and print the score."""
        from poise.runs.api import evaluate  # noqa: PLC0415
        from poise.runs.folder import load, target_return  # noqa: PLC0415

        policy = load(self.run, self.which)
        score = evaluate(
            policy,
            episodes=self.episodes,
            greedy=not self.sampled,
            seed=self.seed,
            step_limit=self.step_limit,
            trust=self.trust,
        )
        kind = "sampled actions" if self.sampled else "greedy actions"
        target = target_return(self.run, policy.environment)
        setup = ""
        if policy.environment.name.startswith("ALE/"):
            setup = f", sticky actions {policy.environment.sticky_actions:g}"
        _print_score(policy.environment.name, kind, score, target, self.json, setup)
        return 0


@dataclasses.dataclass(frozen=True)
class Play:
    """Watch the greedy policy on Gymnasium's own environment, step by step."""

    run: Positional[Path]
    """A run's folder, or a policy file."""

    episodes: int = 1
    """Episodes to play."""

    render: Literal["none", "human"] = "none"
    """A window is opened only for human (needs pip install 'poise[render]')."""

    which: Literal["best", "final"] = "best"
    """The policy that evaluation selected, or the last one."""

    seed: int = 0
    """Root of the episodes' seeds."""

    step_limit: int = TrainConfig.evaluation_step_limit
    """An episode is cut after so many steps."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Play; Ctrl-C ends it, and the environment is closed."""
        from poise.runs.folder import load  # noqa: PLC0415
        from poise.runs.play import play  # noqa: PLC0415

        _require_positive("--episodes", self.episodes)
        _require_positive("--step-limit", self.step_limit)
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}, but must be 0 or more")
        steps = play(
            load(self.run, self.which),
            episodes=self.episodes,
            seed=self.seed,
            step_limit=self.step_limit,
            render_mode=None if self.render == "none" else self.render,
            trust=self.trust,
        )
        for step in steps:
            print(
                f"episode {step.episode + 1}  step {step.step}  action {step.action}  "
                f"reward {step.reward:g}  return {step.running_return:g}"
            )
            if step.ended:
                print(
                    f"episode {step.episode + 1} {step.ended} after {step.step} steps "
                    f"with return {step.running_return:g}"
                )
        return 0


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draw a run's learning curve as PNG."""

    run: Positional[Path]
    """A run's folder."""

    output: Path | None = None
    """The PNG to write. Default: learning_curve.png in the run's folder."""

    def __call__(self) -> int:
        """Draw and say where."""
        from poise.runs.plotting import plot_folder  # noqa: PLC0415

        print(plot_folder(self.run, self.output))
        return 0


@dataclasses.dataclass(frozen=True)
class Replay:
    """Repeat a run from its journal, and compare the parameters bit for bit."""

    run: Positional[Path]
    """A run's folder."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Replay; exit code 0 if it agrees, 1 if it differs."""
        from poise.runs.replay import replay  # noqa: PLC0415

        report = replay(self.run, trust=self.trust)
        for warning in report.warnings:
            print(f"poise: warning: not the same machine: {warning}", file=sys.stderr)
        compared = " and ".join(report.compared) or "no parameters, since the run was killed"
        print(
            f"replayed {report.records:,} records, {report.updates:,} updates and "
            f"{report.steps:,} steps; compared {compared}: identical\n"
            f"SHA-256 of the final parameters: {report.final_hash}"
        )
        return 0


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure training steps per second on this machine."""

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id of the environment."""

    workers: tuple[int, ...] = tuple(sorted({1, usable_cores()}))
    """Numbers of workers to try. Default: 1 and the usable cores."""

    envs_per_worker: tuple[int, ...] = (8, 64)
    """Numbers of environment copies per worker to try."""

    seconds: float = 2.0
    """Length of each measurement, of which there are three."""

    json: bool = False
    """Print one JSON object."""

    def __call__(self) -> int:
        """Measure and print a table."""
        from poise.runs.bench import bench  # noqa: PLC0415

        if not self.workers or not self.envs_per_worker:
            raise ConfigError("--workers and --envs-per-worker take at least one number")
        for value in (*self.workers, *self.envs_per_worker):
            _require_positive("--workers and --envs-per-worker", value)
        if not 0 < self.seconds < float("inf"):
            raise ConfigError(f"--seconds is {self.seconds}, but must be above 0, and finite")
        rows = bench(self.environment, list(self.workers), list(self.envs_per_worker), self.seconds)
        if self.json:
            fused = [row.fused_steps_per_second or 0.0 for row in rows]
            content = {
                "rows": [row._asdict() for row in rows],
                "fused_loop_steps_per_second": max(fused) or None,
            }
            print(json.dumps(content, indent=2))
            return 0
        print("workers  envs/worker        steps/s   of one fused loop a core")
        for row in rows:
            share = "-"
            if row.share_of_fused_loop is not None:
                share = f"{row.share_of_fused_loop:6.0%} of {row.fused_steps_per_second:,.0f}"
            print(
                f"{row.workers:7d}  {row.envs_per_worker:11d}  {row.steps_per_second:13,.0f}   "
                f"{share}"
            )
        return 0


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Examine an environment before the hours are spent: what is wrong, how fast, what to run."""

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id of the environment, or an import path module:attribute."""

    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment's constructor as key=value; values are Python literals."""

    wrappers: tuple[str, ...] = ()
    """Import paths module:attribute of Gymnasium wrappers, applied in this order."""

    world: Literal["auto", "compiled", "atari", "vector", "copies"] = "auto"
    """What training steps, as in train."""

    workers: int = usable_cores()
    """Number of workers of the measured training. Default: the usable processor cores."""

    envs_per_worker: int = TrainConfig.envs_per_worker
    """Environment copies that each worker steps together."""

    seconds: float = 2.0
    """Length of each measurement, of which there are up to four."""

    worker_timeout: float = 60.0
    """Seconds without an answer after which the environment counts as hung."""

    json: bool = False
    """Print one JSON object."""

    def __call__(self) -> int:
        """Examine; exit code 0 if there is no failure, 1 if there is one."""
        from poise.runs.diagnosis import describe  # noqa: PLC0415
        from poise.runs.doctor import examine  # noqa: PLC0415

        config = TrainConfig(
            self.environment,
            env_kwargs=self.env_kwargs,
            wrappers=self.wrappers,
            world=self.world,
            workers=self.workers,
            envs_per_worker=self.envs_per_worker,
            worker_timeout=self.worker_timeout,
        )
        if self.json:
            # What the environment prints must not get between the JSON.
            with contextlib.redirect_stdout(sys.stderr):
                diagnosis = examine(config, self.seconds)
            print(json.dumps(diagnosis.to_json(), indent=2))
            return int(diagnosis.failed)
        width = shutil.get_terminal_size((100, 24)).columns
        diagnosis = examine(
            config, self.seconds, tell=lambda item: print(describe(item, width), flush=True)
        )
        if diagnosis.failed:
            print("There are failures: mend them, then ask the doctor again.")
        if diagnosis.command is not None:
            said = "What would run as it is" if diagnosis.failed else "Recommended"
            print(f"{said}:\n  {diagnosis.command}")
        return int(diagnosis.failed)


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": Train,
    "resume": Resume,
    "random": Random,
    "evaluate": Evaluate,
    "play": Play,
    "plot": Plot,
    "replay": Replay,
    "inspect": Inspect,
    "bench": Bench,
    "doctor": Doctor,
}


def run() -> None:
    """The ``poise`` command: `main`, and then leave without taking the interpreter down in order.

    That takes a quarter of a second with JAX in it, and waits for threads that hang in an
    environment. What was registered to be done at exit is done.
    """
    code = main()
    others = [one for one in threading.enumerate() if one is not threading.main_thread()]
    if any(not one.daemon for one in others):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            # Whoever read it has gone, or its disk is full: main has said so where it matters.
            continue
    os._exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 the command did what was asked; 1 failure, or a replay that differs; 2 bad input; 130 and
        143 ended by SIGINT and SIGTERM.
    """
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Not every terminal has every letter.
            stream.reconfigure(errors="replace")
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="poise",
            description="Asynchronous actor-critic reinforcement learning, fast and replayable.",
            args=arguments,
        )
        return int(command())
    except PoiseError as error:
        if isinstance(error, WorkerError) and error.worker_traceback:
            print(error.worker_traceback, file=sys.stderr)
        print(f"poise: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("poise: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does: that is no failure of ours.
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"poise: {error}", file=sys.stderr)
        return 2 if error.errno in _BAD_PATHS else 1


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """A warning as a sentence, not as a line of our source code."""
    del filename, lineno, file, line
    if issubclass(category, RuntimeWarning):
        print(f"poise: warning: {message}", file=sys.stderr)


def _require_positive(flag: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{flag} is {value}, but must be 1 or more")


def _end(result: Any, quiet: bool) -> int:
    """Say how a run ended; its exit code."""
    if not quiet:
        print(_describe_run(result.summary, result.folder))
    ends = {"interrupted": INTERRUPTED, "terminated": TERMINATED}
    return ends.get(result.summary["stopped"], 0)


def _describe_run(summary: dict[str, Any], folder: Path) -> str:
    score = summary["evaluation"]
    if summary["solved"]:
        verdict = f"solved after {summary['solved_at_steps']:,} steps"
    else:
        verdict = f"not solved ({summary['stopped'].replace('_', ' ')})"
    lines = [
        f"{summary['environment']}: {verdict}; {summary['steps']:,} steps in "
        f"{summary['training_seconds']:.2f} s of training, {summary['wall_seconds']:.2f} s in all"
    ]
    if score:
        lines.append(
            f"verified on Gymnasium's own environment: {score['mean']:.1f} "
            f"± {score['standard_error'] or 0:.1f} over {score['episodes']} fresh episodes"
        )
    lines.append(f"run folder: {folder}")
    return "\n".join(lines)


def _print_score(
    name: str, kind: str, score: Any, target: float | None, as_json: bool, setup: str = ""
) -> None:
    solved = None if target is None else bool(score.mean >= target)
    if as_json:
        from poise.runs.recorder import score_to_json  # noqa: PLC0415

        content = {"environment": name, **score_to_json(score)}
        if target is not None:
            content |= {"target_return": target, "solved": solved}
        print(json.dumps(content, indent=2))
        return
    print(f"{name}, {kind}, {score.episodes} episodes{setup}")
    print(f"mean {score.mean:.2f}  standard error {score.standard_error:.2f}  ", end="")
    print(f"95% interval {score.low:.2f} to {score.high:.2f}  ", end="")
    print(f"min {score.minimum:g}  max {score.maximum:g}")
    if score.cut:
        print(f"{score.cut} episodes were cut at the step limit")
    if target is not None:
        print(f"{'solved' if solved else 'not solved'}: the target return is {target:g}")


if __name__ == "__main__":
    run()
