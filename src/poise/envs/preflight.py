"""Checking an environment before training: whether it follows Gymnasium's API.

A few resets and steps are enough to find errors that would otherwise stop a run after hours.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from poise.config import WorldKind
from poise.envs.deadlines import run_with_deadline
from poise.envs.env_factory import EnvFactory
from poise.envs.shared_objects import GlobalRandomState
from poise.envs.trial_play import Approve, Trace, TrialPlay

__all__ = ["EnvironmentTraits", "check_environment"]

NAMED = 3
"""Number of shared things that a message names."""


class EnvironmentTraits(NamedTuple):
    """The result of checking an environment.

    Attributes:
        repeatable: whether a new copy returned the same results again, with the same seed and the
            same actions and with another copy in between, also after a reset without a seed. If
            not, it has state or randomness outside the copy, and its runs cannot be replayed.
        shares_state: whether stepping one copy changed what another returned, other than by drawing
            random numbers; or, if nothing repeats, changed objects that another can reach. Two such
            copies must not be stepped in one process.
        shared: names of what they share, as far as found, for messages: ``Simulator.aircraft``.
        remembers: whether the same copy returned different results in a second episode with the
            same seed, although the environment is repeatable: an episode depends on the previous
            episodes of its copy.
    """

    repeatable: bool
    shares_state: bool
    shared: str = ""
    remembers: bool = False


def check_environment(
    env_factory: EnvFactory,
    timeout: float,
    world: WorldKind = "copies",
    approve: Approve = lambda observation, action: None,
    needed: int = 2,
    timed: Callable[[float], None] = lambda seconds: None,
    in_threads: bool = False,
) -> EnvironmentTraits:
    """Check an environment by making copies and taking a few steps with random actions.

    Args:
        env_factory: makes the copies.
        timeout: seconds after which a call counts as hung.
        world: how the environment will be stepped; with ``vector`` or ``envpool``, that
            implementation is checked too.
        approve: called with the spaces before any step; raises if they are not suitable.
        needed: number of copies that will be open at a time; if 1, no two copies are open here.
        timed: called with the duration of each step in seconds.
        in_threads: whether the environment will be made in one thread and stepped in others; the
            check then does the same.

    Raises:
        EnvironmentCheckError: the environment hangs, raises, or violates Gymnasium's API.
        InputError: the environment cannot be made.
    """
    # Some environments take seconds to make, so the first copy is kept as the other copy of the
    # second trial, unless that would move it to another thread.
    look = TrialPlay(env_factory, approve, needed, timed, keeps=needed > 1 and not in_threads)

    def play(work: Callable[[], Trace]) -> Trace:
        trace: Trace = run_with_deadline(
            work, timeout, env_factory.name, look.describe_activity, in_threads
        )
        return trace

    # The check must not affect what the caller draws from the global generators afterwards.
    with GlobalRandomState(), look:
        first = play(look.alone)
        second = play(look.alone if needed == 1 else look.beside_another)
        if world in ("vector", "envpool"):
            run_with_deadline(
                functools.partial(look.together, world),
                timeout,
                env_factory.name,
                look.describe_activity,
                in_threads,
            )
        if in_threads:
            run_with_deadline(
                look.across_threads, timeout, env_factory.name, look.describe_activity, in_threads
            )
        shares = False
        if first != second and needed > 1:
            random_state = GlobalRandomState()
            alone = [play(random_state.repeat(look.alone)) for _ in range(2)]
            beside = play(random_state.repeat(look.beside_another_with_its_own_random_state))
            repeats = alone[0].seeded == alone[1].seeded
            shares = repeats and beside.seeded != alone[0].seeded
            if shares or not repeats:
                run_with_deadline(
                    look.reach, timeout, env_factory.name, look.describe_activity, in_threads
                )
                # If the results have already shown shared state, this only adds names to it.
                shares = shares or bool(look.shared)
    repeatable = first == second
    return EnvironmentTraits(
        repeatable,
        shares,
        _listed(look.shared) if shares else "",
        remembers=repeatable and look.remembers,
    )


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
