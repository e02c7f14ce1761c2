"""Whether this process runs the ``poise`` command, and since when; every command imports it."""

import os
import time
from pathlib import Path

__all__ = ["is_command", "process_age", "run_as_command"]

_BEGAN = time.monotonic() - time.process_time()
"""About when this program began: what it had waited for, such as a slow disk, is not known."""
_roles: list[str] = []


def run_as_command() -> None:
    """Say that this process runs nothing but the command, or a worker of its run."""
    _roles.append("command")


def is_command() -> bool:
    """Whether this process was started as the command, and not by somebody's script."""
    return bool(_roles)


def process_age() -> float:
    """Seconds since this program was started in this process.

    The system knows when the process was started. A shell may run its last command without starting
    another process: then the process is as old as the shell, which may have installed poise before.
    """
    since_began = time.monotonic() - _BEGAN
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return min(since_began, uptime - float(fields[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return since_began
