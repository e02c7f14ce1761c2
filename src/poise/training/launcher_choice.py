"""Where workers run if nobody says it: the one rule, for training and for the doctor.

What steps an environment decides, because training does not begin with a measurement that takes as
long as many a run. Who has measured (the doctor) departs from it only for a clear gain.
"""

from collections.abc import Mapping, Sequence

from poise.config import PROCESSES, THREADS, LauncherName
from poise.envs.registry import World

__all__ = ["CLEARLY_FASTER", "PARALLEL", "clearly_faster", "usual_launcher", "usual_reason"]

PARALLEL: tuple[LauncherName, ...] = (THREADS, PROCESSES)
"""The launchers that ``auto`` chooses from."""

CLEARLY_FASTER = 1.25
"""What another launcher must gain over the usual one, in every round of measurements. Less comes
and goes with what else the machine does."""


def usual_launcher(envs: World) -> LauncherName:
    """What ``--launcher auto`` takes.

    Processes where Python steps the environment: it holds the GIL meanwhile, may be bound to the
    main thread, and a worker process in which it hangs can be killed. Threads everywhere else.
    """
    name: LauncherName = PROCESSES if envs.holds_gil else THREADS
    return name


def usual_reason(envs: World) -> str:
    """Why, for people."""
    if envs.holds_gil:
        return (
            "Python steps the environment, which keeps other threads waiting (GIL), and a process "
            "in which it hangs can be killed"
        )
    return "the environment is stepped outside of Python, so that threads use all cores"


def clearly_faster(
    usual: LauncherName, rounds: Sequence[Mapping[LauncherName, float]]
) -> tuple[LauncherName, float] | None:
    """The launcher to take instead of the usual one, and what it gains at least.

    Args:
        usual: what ``auto`` takes.
        rounds: steps per second by launcher, measured one round after the other.

    Returns:
        None where the usual one stays: the other one was not clearly faster in every round.
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
