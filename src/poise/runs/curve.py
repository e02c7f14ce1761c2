"""Drawing the learning curve: returns of the training episodes against environment steps.

Imports no JAX, so that it also serves as a process of its own (see `plotter`): then it takes one
JSON object with the arguments of `draw_curve` on standard input.
"""

import functools
import io
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from poise.errors import FileFormatError, RunFolderError
from poise.opening import open_to_read
from poise.runs.files import write_bytes

__all__ = ["draw_curve", "import_matplotlib", "read_episodes"]

WINDOW = 100
MARGIN = 0.01
"""Of the figure's width, left of the label."""
PLAIN_POWERS = (-5, 8)
"""Powers of ten between which returns are written out."""
MAX_POINTS = 4000
"""Episodes that are drawn as points; of more, evenly chosen ones."""
MAX_ROW_BYTES = 1 << 16
"""A hundred times the longest row: what is longer is no row."""


def import_matplotlib() -> None:
    """Import what plotting needs (slow: best done while something compiles)."""
    # It tells of a cache folder that it cannot have, which costs a moment and nothing else.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.backends.backend_agg  # noqa: PLC0415
    import matplotlib.figure  # noqa: F401, PLC0415


def read_episodes(path: Path) -> dict[str, np.ndarray]:
    """The episodes and evaluations of a ``metrics.jsonl``.

    Returns:
        ``steps``, ``returns``, ``moving_average`` of training episodes; ``evaluated_steps`` and
        ``evaluated_means`` of evaluations.

    Raises:
        RunFolderError: the file cannot be read.
        FileFormatError: a row is damaged.
    """
    episodes: list[tuple[float, float, float]] = []
    evaluations: list[tuple[float, float]] = []
    try:
        with open_to_read(path) as file:
            lines = iter(lambda: file.readline(MAX_ROW_BYTES), b"")
            for number, line in enumerate(lines, 1):
                where = f"{path}, line {number}"
                if not line.endswith(b"\n"):
                    if len(line) < MAX_ROW_BYTES:
                        # The last row of a run that was killed while it wrote.
                        break
                    raise FileFormatError(f"{where} is damaged: it does not end")
                _read_row(line, where, episodes, evaluations)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    table = np.array(episodes, np.float64).reshape(-1, 3)
    evaluated = np.array(evaluations, np.float64).reshape(-1, 2)
    return {
        "steps": table[:, 0],
        "returns": table[:, 1],
        "moving_average": table[:, 2],
        "evaluated_steps": evaluated[:, 0],
        "evaluated_means": evaluated[:, 1],
    }


def _read_row(
    line: bytes,
    where: str,
    episodes: list[tuple[float, float, float]],
    evaluations: list[tuple[float, float]],
) -> None:
    try:
        row: dict[str, Any] = json.loads(line)
        if row["kind"] == "episode":
            numbers = float(row["steps"]), float(row["return"]), float(row["moving_average"])
            episodes.append(numbers)
        elif row["kind"] == "evaluation":
            evaluations.append((float(row["steps"]), float(row["selection"]["mean"])))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{where} is damaged") from error


def draw_curve(
    metrics: Path, output: Path, title: str, target: float | None, baseline: float | None
) -> None:
    """Draw a run's learning curve.

    Args:
        metrics: its ``metrics.jsonl``.
        output: the PNG to write.
        title: above the plot.
        target: the return that solves the environment, drawn as a line.
        baseline: the mean return of random actions, drawn as a line.
    """
    data = read_episodes(metrics)
    content = io.BytesIO()
    with _drawing:
        figure = _figure()
        try:
            _draw(figure, data, title, target, baseline)
            figure.savefig(content, format="png", metadata={"Software": "poise"})
        finally:
            figure.clear()
    write_bytes(output, content.getvalue())


_drawing = threading.Lock()
"""Held by who draws on the figure."""


@functools.cache
def _figure() -> Any:
    """The figure that every curve of this process is drawn on.

    One for each curve would leave its pixels behind, 2 MB: a figure and its parts refer to each
    other, and Python's cyclic collector, which counts objects and not bytes, comes late.
    """
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 4.5), dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _draw(
    figure: Any,
    data: dict[str, np.ndarray],
    title: str,
    target: float | None,
    baseline: float | None,
) -> None:
    axes = figure.add_axes((0.085, 0.12, 0.895, 0.80))
    steps, returns = data["steps"], data["returns"]
    chosen = np.unique(np.linspace(0, max(len(steps) - 1, 0), MAX_POINTS).astype(int))
    if len(steps):
        axes.plot(
            steps[chosen], returns[chosen], ".", color="0.75", markersize=2.5, label="episodes"
        )
        means = _running_mean(returns)
        axes.plot(
            steps[chosen], means[chosen], color="tab:blue", label=f"mean of the last {WINDOW}"
        )
        axes.plot(
            steps[chosen],
            data["moving_average"][chosen],
            color="tab:cyan",
            linewidth=1,
            label="moving average (0.99 / 0.01)",
        )
    axes.plot(
        data["evaluated_steps"],
        data["evaluated_means"],
        "o-",
        color="tab:orange",
        markersize=4,
        linewidth=1,
        label="greedy policy, evaluated",
    )
    if target is not None:
        axes.axhline(target, color="tab:green", linestyle="--", label=f"solved at {target:g}")
    if baseline is not None:
        axes.axhline(baseline, color="tab:red", linestyle=":", label=f"random: {baseline:.1f}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return")
    # A name may hold a dollar, which is no formula.
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    _label_plainly(figure, axes)


def _label_plainly(figure: Any, axes: Any) -> None:
    """Write numbers out where they can be read, and leave them the room that they take."""
    from matplotlib.ticker import FuncFormatter, ScalarFormatter  # noqa: PLC0415

    axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: _short(steps)))
    plain = ScalarFormatter(useOffset=False)
    plain.set_powerlimits(PLAIN_POWERS)
    axes.yaxis.set_major_formatter(plain)
    # Only of this axis: finding the tightest margins of all takes longer than all the rest.
    box = axes.yaxis.get_tightbbox(figure.canvas.get_renderer())
    left, bottom, width, height = axes.get_position().bounds
    margin = left - box.x0 / figure.bbox.width + MARGIN
    axes.set_position((margin, bottom, left + width - margin, height))


def _short(number: float) -> str:
    """A number of steps: 500, 20k, 1.5M."""
    size = abs(number)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


def _running_mean(returns: np.ndarray) -> np.ndarray:
    sums = np.cumsum(np.concatenate([[0.0], returns]))
    ends = np.arange(1, len(returns) + 1)
    begins = np.maximum(ends - WINDOW, 0)
    means: np.ndarray = (sums[ends] - sums[begins]) / (ends - begins)
    return means


def main() -> None:
    """Import what is slow, then wait for what to draw."""
    import_matplotlib()
    line = sys.stdin.readline()
    if not line:
        return
    arguments = json.loads(line)
    for name in ("metrics", "output"):
        arguments[name] = Path(arguments[name])
    draw_curve(**arguments)
    print("drawn", flush=True)
    # Somebody is waiting for the end of this process, and an interpreter takes its time to leave.
    os._exit(0)


if __name__ == "__main__":
    main()
