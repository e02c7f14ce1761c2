"""The live display of a terminal: a few lines that are redrawn, never wider than the terminal.

Rich is slow to import, so it is imported only when a display is opened.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Frame", "LiveDisplay", "open_live"]

NAME_WIDTH = 24
"""Maximum number of characters of the environment's name."""
FRAMES_PER_SECOND = 8


class Frame(NamedTuple):
    """Content of the display at one moment.

    Attributes:
        name: text before the bar.
        share: the filled fraction of the bar, from 0 to 1.
        times: text after the bar.
        lines: lines below the bar.
    """

    name: str
    share: float
    times: str
    lines: tuple[str, ...]


class LiveDisplay:
    """A live display.

    Args:
        console: rich's, of a terminal.
        look: returns the current frame; called from another thread.
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
        """Print a permanent line above the display."""
        self._live.console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last frame on the screen, and restore the terminal."""
        self._live.stop()

    def render(self) -> Any:
        """Render the current frame for rich."""
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
    """Open a live display on standard output; None if that is not a suitable terminal."""
    if not sys.stdout.isatty():
        return None
    # Only needed for terminals, and not before the first compilation has begun.
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    live = LiveDisplay(console, look)
    live.start()
    return live


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"
