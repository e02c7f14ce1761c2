"""The launchers, by name."""

from collections.abc import Mapping

from poise.config import LauncherName
from poise.launchers.launcher import Launcher
from poise.launchers.processes import Processes
from poise.launchers.serial import Serial
from poise.launchers.threads import Threads

__all__ = ["LAUNCHERS"]

LAUNCHERS: Mapping[LauncherName, Launcher] = {
    launcher.name: launcher
    for launcher in (
        Threads(),
        Processes(),
        Serial(),
    )
}
"""One entry for each launcher."""
