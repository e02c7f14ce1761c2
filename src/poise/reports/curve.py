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

from poise.errors import ConfigError, FileFormatError, RunFolderError
from poise.reports.curve_data import Episodes, Marks, Verified
from poise.reports.curve_figure import DOTS_PER_INCH, SIZE, draw
from poise.safe_open import open_to_read
from poise.storage.files import write_bytes

__all__ = ["draw_curve", "image_format", "import_matplotlib", "read_episodes"]

FORMATS: dict[str, dict[str, str | None]] = {
    "png": {"Software": "poise"},
    "svg": {"Creator": "poise", "Date": None},
    "pdf": {"Creator": "poise", "CreationDate": None},
}
"""By the file's suffix; with what is written into the file, so that it says nothing of the day."""
MAX_ROW_BYTES = 1 << 16
"""A hundred times the longest row: what is longer is no row."""


def import_matplotlib() -> None:
    """Import what plotting needs (slow: best done while something compiles)."""
    # It tells of a cache folder that it cannot have, which costs a moment and nothing else.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.backends.backend_agg  # noqa: PLC0415
    import matplotlib.figure  # noqa: F401, PLC0415


def read_episodes(path: Path) -> Episodes:
    """The episodes and evaluations of a ``metrics.jsonl``.

    Raises:
        RunFolderError: the file cannot be read.
        FileFormatError: a row is damaged.
    """
    episodes: list[tuple[float, ...]] = []
    evaluations: list[tuple[float, ...]] = []
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
    table = np.array(episodes, np.float64).reshape(-1, 2)
    evaluated = np.array(evaluations, np.float64).reshape(-1, 3)
    return Episodes(*table.T, *evaluated.T)


def _read_row(
    line: bytes,
    where: str,
    episodes: list[tuple[float, ...]],
    evaluations: list[tuple[float, ...]],
) -> None:
    try:
        row: dict[str, Any] = json.loads(line)
        if row["kind"] == "episode":
            episodes.append((float(row["steps"]), float(row["return"])))
        elif row["kind"] == "evaluation":
            mean, version = float(row["selection"]["mean"]), float(row.get("version", -1))
            evaluations.append((float(row["steps"]), mean, version))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{where} is damaged") from error


def image_format(output: Path) -> str:
    """The format that a file's suffix asks for.

    Raises:
        ConfigError: it is none that can be drawn.
    """
    wanted = output.suffix.lower().removeprefix(".")
    if wanted not in FORMATS:
        *most, last = (f".{name}" for name in FORMATS)
        raise ConfigError(
            f"{output} cannot be drawn: its suffix says the format, and must be "
            f"{', '.join(most)} or {last}"
        )
    return wanted


def draw_curve(metrics: Path, output: Path, marks: Marks) -> None:
    """Draw a run's learning curve.

    Args:
        metrics: its ``metrics.jsonl``.
        output: the PNG, SVG or PDF to write, by its suffix.
        marks: what is drawn beside the records.

    Raises:
        RunFolderError: the metrics cannot be read.
        FileFormatError: a row of them is damaged.
        ConfigError: the suffix is another one.
        OSError: the file cannot be written.
    """
    wanted = image_format(output)
    data = read_episodes(metrics)
    content = io.BytesIO()
    with _drawing:
        figure = _figure()
        try:
            draw(figure, data, marks)
            figure.savefig(content, format=wanted, metadata=FORMATS[wanted])
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

    figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def main() -> None:
    """Import what is slow, then wait for what to draw."""
    import_matplotlib()
    line = sys.stdin.readline()
    if not line:
        return
    arguments = json.loads(line)
    marks = Marks(**arguments["marks"])
    if marks.verified is not None:
        marks = marks._replace(verified=Verified(*marks.verified))
    draw_curve(Path(arguments["metrics"]), Path(arguments["output"]), marks)
    print("drawn", flush=True)
    # Somebody is waiting for the end of this process, and an interpreter takes its time to leave.
    os._exit(0)


if __name__ == "__main__":
    main()
