"""Drawing the learning curve of a run's folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from poise.agent.policy_file import MAX_POLICY_BYTES, read_metadata
from poise.errors import ConfigError, InputError
from poise.reports.curve import draw_curve, image_format
from poise.reports.curve_data import Marks, Verified
from poise.safe_open import read_bytes
from poise.storage.files import json_number
from poise.storage.run_folder import load_config, load_summary

__all__ = ["Draw", "plot_folder", "plot_run"]

Draw = Callable[[Path, Path, Marks], None]
"""A function (metrics, output, marks) such as `draw_curve`."""


def plot_folder(
    run: str | Path,
    output: Path | None = None,
    summary: Mapping[str, Any] | None = None,
    draw: Draw = draw_curve,
) -> Path:
    """Draw the learning curve of a run, and return the path of the image.

    Args:
        run: the run's folder.
        output: the PNG, SVG or PDF file to write; its suffix determines the format. Default:
            ``learning_curve.png`` in the folder.
        summary: the run's results; default: the content of its ``summary.json``.
        draw: the function that draws, in this process or another.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: one of its files is damaged.
        ConfigError: the output is a folder, its folder is missing, or its suffix is not supported.
        OSError: the image cannot be written.
    """
    folder = Path(run)
    config, resolved = load_config(folder)
    output = output or folder / "learning_curve.png"
    if not output.parent.is_dir() or output.is_dir():
        raise ConfigError(f"{output} cannot be written: it is a folder, or its folder is missing")
    image_format(output)
    if summary is None:
        summary = load_summary(folder) if (folder / "summary.json").is_file() else {}
    marks = Marks(
        title=f"{config.environment}, {config.algorithm.upper()}, seed {config.seed}",
        target=json_number(resolved.get("target_return")),
        baseline=json_number(summary.get("random_baseline")),
        verified=_verified(folder, summary.get("evaluation")),
        policy=config.policy,
    )
    draw(folder / "metrics.jsonl", output, marks)
    return output


def _verified(folder: Path, score: Mapping[str, Any] | None) -> Verified | None:
    """The score that a run reports; None if it has none."""
    mean = json_number(score.get("mean")) if score is not None else None
    if score is None or mean is None:
        return None
    low, high = json_number(score.get("low")), json_number(score.get("high"))
    return Verified(mean, low, high, _best_version(folder / "best.safetensors"))


def _best_version(path: Path) -> int | None:
    """The version of the scored parameters; None if the policy file does not contain it."""
    try:
        content = read_bytes(path, MAX_POLICY_BYTES)
        extra = read_metadata(content, str(path), "poise", "a policy of poise").get("extra")
    except (OSError, InputError):
        # The score can be drawn without the version.
        return None
    version = extra.get("version") if isinstance(extra, dict) else None
    return version if isinstance(version, int) else None


def plot_run(run: str | Path, output: Path | None = None) -> Path:
    """Draw a learning curve like `plot_folder`, but turn errors of writing into `ConfigError`.

    Raises:
        RunFolderError: there is no run in the folder.
        FileFormatError: one of its files is damaged.
        ConfigError: the image cannot be written there, or its suffix is not supported.
    """
    try:
        return plot_folder(run, output)
    except OSError as error:
        place = output or Path(run) / "learning_curve.png"
        raise ConfigError(
            f"{place} cannot be written: {error.strerror or error}; choose another file with "
            "--output"
        ) from error
