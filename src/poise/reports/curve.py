"""Drawing of the learning curve: returns of the training episodes over environment steps.

This module does not import JAX, so that it can also run as a separate process (see
`poise.reports.plot_process`). Then it reads the arguments of `draw_curve` as one JSON object from
standard input.
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
"""File formats by suffix, with metadata that leaves out the date, so that files are repeatable."""
MAX_ROW_BYTES = 1 << 16
"""A hundred times the longest row: a longer line is not a row."""


def import_matplotlib() -> None:
    """Import Matplotlib (slow: best done while something else compiles)."""
    # Matplotlib warns if it cannot write a cache folder, which only costs a moment.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.backends.backend_agg  # noqa: PLC0415
    import matplotlib.figure  # noqa: F401, PLC0415


def read_episodes(path: Path) -> Episodes:
    """Read the episodes and evaluations in a ``metrics.jsonl``.

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
                        # An incomplete last row: the run was killed while it wrote.
                        break
                    raise FileFormatError(f"{where} is damaged: it is too long")
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
    """The image format for a file's suffix.

    Raises:
        ConfigError: the format is not supported.
    """
    wanted = output.suffix.lower().removeprefix(".")
    if wanted not in FORMATS:
        *most, last = (f".{name}" for name in FORMATS)
        raise ConfigError(
            f"{output} cannot be drawn: the suffix determines the format, and must be "
            f"{', '.join(most)} or {last}"
        )
    return wanted


def draw_curve(metrics: Path, output: Path, marks: Marks) -> None:
    """Draw a run's learning curve.

    Args:
        metrics: the run's ``metrics.jsonl``.
        output: the PNG, SVG or PDF file to write; its suffix determines the format.
        marks: title, target, baseline and verified score.

    Raises:
        RunFolderError: the metrics cannot be read.
        FileFormatError: a row of the metrics is damaged.
        ConfigError: the suffix is not supported.
        OSError: the output cannot be written.
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
"""Held while a thread draws on the shared figure."""


@functools.cache
def _figure() -> Any:
    """The figure that is used for all curves of this process.

    A new figure per curve would keep its 2 MB of pixels in memory for long: a figure and its parts
    refer to each other, and Python's cyclic garbage collector counts objects, not bytes.
    """
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def main() -> None:
    """Import Matplotlib, then wait for the arguments and draw."""
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
    # The parent waits for the end of this process, and a full interpreter shutdown is slow.
    os._exit(0)


if __name__ == "__main__":
    main()
