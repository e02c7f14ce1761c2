"""The learning curve of a run's folder."""

from collections.abc import Callable
from pathlib import Path

from poise.errors import ConfigError
from poise.runs.curve import draw_curve
from poise.runs.files import json_number
from poise.runs.folder import load_config, load_summary

__all__ = ["Draw", "plot_folder", "plot_run"]

Draw = Callable[[Path, Path, str, float | None, float | None], None]
"""(metrics, output, title, target, baseline), as `draw_curve`."""


def plot_folder(
    run: str | Path,
    output: Path | None = None,
    baseline: float | None = None,
    draw: Draw = draw_curve,
) -> Path:
    """Draw the learning curve of a run's folder; returns the path of the PNG.

    Args:
        run: the run's folder.
        output: the PNG to write; by default ``learning_curve.png`` in the folder.
        baseline: mean return of random actions; by default what the run's summary says.
        draw: draws it, in this process or another.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: one of its files is damaged.
        ConfigError: the PNG has no place there.
        OSError: the PNG cannot be written.
    """
    folder = Path(run)
    config, resolved = load_config(folder)
    target = resolved.get("target_return")
    output = output or folder / "learning_curve.png"
    if not output.parent.is_dir() or output.is_dir():
        raise ConfigError(f"{output} cannot be written: it is a folder, or its folder is missing")
    if baseline is None and (folder / "summary.json").is_file():
        baseline = json_number(load_summary(folder)["random_baseline"])
    draw(
        folder / "metrics.jsonl",
        output,
        f"{config.environment}, {config.algorithm.upper()}, seed {config.seed}",
        json_number(target),
        baseline,
    )
    return output


def plot_run(run: str | Path, output: Path | None = None) -> Path:
    """`plot_folder` for a user who asks for it.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: one of its files is damaged.
        ConfigError: the PNG cannot be written there.
    """
    try:
        return plot_folder(run, output)
    except OSError as error:
        place = output or Path(run) / "learning_curve.png"
        raise ConfigError(
            f"{place} cannot be written: {error.strerror or error}; --output writes it elsewhere"
        ) from error
