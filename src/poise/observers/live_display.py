"""The live display of a terminal: a few lines that are drawn over and over, none longer than it.

Rich is slow to import: it is, where a display is opened.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Frame", "LiveDisplay", "open_live"]

NAME_WIDTH = 24
"""Letters of the environment's name."""
FRAMES_PER_SECOND = 8


class Frame(NamedTuple):
    """What is shown at one moment.

    Attributes:
        name: in front of the bar.
        share: of the bar that is full, from 0 to 1.
        times: behind the bar.
        lines: below it.
    """

    name: str
    share: float
    times: str
    lines: tuple[str, ...]


class LiveDisplay:
    """A live display.

    Args:
        console: rich's, of a terminal.
        look: says what is to be shown, whenever that is asked; from another thread.
    """

    def __init__(self, console: Any, look: Callable[[], Frame]) -> None:
        from rich.live import Live as RichLive  # noqa: PLC0415

        self._look = look
        self._live = RichLive(
            console=console, get_renderable=self.render, refresh_per_second=FRAMES_PER_SECOND
        )

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def print(self, line: str) -> None:
        """Print a line above the display, which stays."""
        self._live.console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last frame where it is, and the terminal as it was."""
        self._live.stop()

    def render(self) -> Any:
        """The frame of this moment, as rich draws it."""
        from rich.console import Group  # noqa: PLC0415
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        frame = self._look()
        head = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            head.add_column(ratio=ratio, no_wrap=True)
        bar = ProgressBar(total=1.0, completed=frame.share)
        head.add_row(Text(_shortened(frame.name)), bar, Text(frame.times))
        lines = (Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in frame.lines)
        return Group(head, *lines)


def open_live(look: Callable[[], Frame]) -> LiveDisplay | None:
    """Open a live display on standard output; None where that is no terminal that can have one."""
    if not sys.stdout.isatty():
        return None
    # Only for terminals, and not needed before the first compilation has begun.
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    live = LiveDisplay(console, look)
    live.start()
    return live


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"
