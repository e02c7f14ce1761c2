"""The final output and the exit code of ``poise train`` and ``poise resume``."""

import shlex
from pathlib import Path
from typing import Any

from poise.commands.values import terminal_width, wrapped
from poise.number_format import as_given, with_error

__all__ = ["INTERRUPTED", "end_run"]


INTERRUPTED, TERMINATED = 130, 143


def end_run(result: Any, quiet: bool, here: Path) -> int:
    """Print how a run ended, and return the exit code."""
    if not quiet:
        folder = result.folder
        # Relative to the folder where the command was started, as the user typed it.
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
        f"{summary['training_seconds']:.2f} s of training, {summary['wall_seconds']:.2f} s in total"
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
    """The command that continues a run that was ended by a signal."""
    if result.summary["stopped"] not in ("interrupted", "terminated"):
        return []
    # Code that a file names is imported only if the user says so.
    trust = " --trust" if result.policy.environment.imports else ""
    return [f"continue with: poise resume {shlex.quote(str(folder))}{trust}"]
