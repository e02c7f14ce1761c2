"""Commands that train: a new run, and one that goes on."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from poise.commands.values import terminal_width, wrapped
from poise.config import TrainConfig
from poise.number_format import as_given, with_error

__all__ = ["INTERRUPTED", "Resume", "Train"]


INTERRUPTED, TERMINATED = 130, 143


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
        from poise.reports.plot_process import Plotter  # noqa: PLC0415

        here = Path.cwd()
        with Plotter() as draw:
            from poise.training.runtime import process_age  # noqa: PLC0415
            from poise.training.train import train_config  # noqa: PLC0415

            result = train_config(
                self.config,
                run_dir=self.run_dir,
                quiet=self.quiet,
                draw=draw,
                tensorboard=self.tensorboard,
                process_age=process_age(),
            )
        return _end(result, self.quiet, here)


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

    tensorboard: bool = False
    """Write TensorBoard event files from here on; a run that wrote them goes on with them."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Go on; exit codes as of train."""
        from poise.training.runtime import process_age  # noqa: PLC0415
        from poise.training.train import resume  # noqa: PLC0415

        here = Path.cwd()
        result = resume(
            self.run,
            quiet=self.quiet,
            max_steps=self.max_steps,
            max_episodes=self.max_episodes,
            max_seconds=self.max_seconds,
            tensorboard=self.tensorboard,
            trust=self.trust,
            process_age=process_age(),
        )
        return _end(result, self.quiet, here)


def _end(result: Any, quiet: bool, here: Path) -> int:
    """Say how a run ended; its exit code."""
    if not quiet:
        folder = result.folder
        # As it was typed, from the folder where the command was begun.
        shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
        width = terminal_width()
        lines = [
            *_describe_run(result.summary),
            f"run folder: {shown}",
            *_how_to_go_on(result, shown),
        ]
        for line in lines:
            print(wrapped(line, width))
    ends = {"interrupted": INTERRUPTED, "terminated": TERMINATED}
    return ends.get(result.summary["stopped"], 0)


def _describe_run(summary: dict[str, Any]) -> list[str]:
    score, target = summary["evaluation"], summary["target_return"]
    stopped = summary["stopped"].replace("_", " ")
    if summary["solved"]:
        outcome = f"solved after {summary['solved_at_steps']:,} steps"
    elif target is None:
        outcome = f"trained ({stopped})"
    else:
        outcome = f"not solved ({stopped})"
    lines = [
        f"{summary['environment']}: {outcome}; {summary['steps']:,} steps in "
        f"{summary['training_seconds']:.2f} s of training, {summary['wall_seconds']:.2f} s in all"
    ]
    if score:
        against = () if target is None else (target,)
        mean = with_error(score["mean"], score["standard_error"], *against)
        solved_at = (
            "no target return: --target-return sets one"
            if target is None
            else f"target {as_given(target)}"
        )
        attempts = summary["verification_attempts"]
        at = f", attempt {attempts}" if attempts > 1 else ""
        lines.append(
            f"verified on Gymnasium's own environment: {mean} over {score['episodes']} fresh "
            f"episodes ({solved_at}{at})"
        )
        if score["cut"]:
            limit = summary["evaluation_step_limit"]
            lines.append(f"{score['cut']} of these episodes were cut after {limit:,} steps")
    lines.extend(f"- {finding}" for finding in summary.get("findings", []))
    return lines


def _how_to_go_on(result: Any, folder: Path) -> list[str]:
    """The command that goes on with a run that a signal ended."""
    if result.summary["stopped"] not in ("interrupted", "terminated"):
        return []
    # What a file names is imported only if the user says so.
    trust = " --trust" if result.policy.environment.imports else ""
    return [f"go on with: poise resume {shlex.quote(str(folder))}{trust}"]
