"""Choice of the launcher for ``auto``: one rule, for training and for ``poise doctor``.

It depends only on what steps the environment, because a measurement before training would take
longer than many a run. The doctor, which does measure, departs from the rule only for a clear gain.
"""

from collections.abc import Mapping, Sequence

from poise.config import PROCESSES, THREADS, LauncherName
from poise.envs.registry import World

__all__ = ["CLEARLY_FASTER", "PARALLEL", "clearly_faster", "usual_launcher", "usual_reason"]

PARALLEL: tuple[LauncherName, ...] = (THREADS, PROCESSES)
"""The launchers that ``auto`` chooses from."""

CLEARLY_FASTER = 1.25
"""Minimum speed-up of another launcher over the usual one, in every round of measurements. Smaller
differences may be due to other load on the machine."""


def usual_launcher(envs: World) -> LauncherName:
    """Return the launcher that ``--launcher auto`` selects.

    Processes if Python steps the environment: it then holds the GIL, may be bound to the main
    thread, and a worker process in which it hangs can be killed. Otherwise threads.
    """
    name: LauncherName = PROCESSES if envs.holds_gil else THREADS
    return name


def usual_reason(envs: World) -> str:
    """Return a sentence that explains the choice."""
    if envs.holds_gil:
        return (
            "Python steps the environment, which keeps other threads waiting (GIL), and a process "
            "in which it hangs can be killed"
        )
    return "the environment is stepped outside of Python, so that threads use all cores"


def clearly_faster(
    usual: LauncherName, rounds: Sequence[Mapping[LauncherName, float]]
) -> tuple[LauncherName, float] | None:
    """Return the launcher to use instead of the usual one, and its minimum speed-up.

    Args:
        usual: the launcher that ``auto`` selects.
        rounds: steps per second by launcher, one mapping for each round of measurements.

    Returns:
        None if the usual launcher is kept: no other was clearly faster in every round.
    """
    gains: dict[LauncherName, float] = {}
    for rates in rounds:
        for launcher, rate in rates.items():
            if launcher != usual and usual in rates:
                gains[launcher] = min(gains.get(launcher, float("inf")), rate / rates[usual])
    best = max(gains, key=lambda launcher: gains[launcher], default=None)
    if best is None or gains[best] < CLEARLY_FASTER:
        return None
    return best, gains[best]
