"""Checks of an environment before training begins: whether it keeps Gymnasium's contract.

A short look, a few resets and steps, so that what would fail after hours fails in a moment.
"""

from collections.abc import Callable
from typing import NamedTuple

from poise.config import WorldKind
from poise.envs.deadlines import run_with_deadline
from poise.envs.env_factory import EnvFactory
from poise.envs.shared_objects import GlobalChance
from poise.envs.trial_play import Approve, Trace, TrialPlay

__all__ = ["EnvironmentTraits", "check_environment"]

NAMED = 3
"""Of the things that copies share."""


class EnvironmentTraits(NamedTuple):
    """What a look at an environment found.

    Attributes:
        repeatable: a copy did the same once more, from the same seed, with the same actions and
            another copy beside it, also after a reset without a seed. If not, it has a state or a
            chance outside, and no run of it can be replayed.
        shares_state: stepping one copy changed what another showed, and not by its chance; or,
            where nothing repeats, what another reaches. No two copies may be stepped in one
            process.
        shared: what they share, as far as it was found, for messages: ``Simulator.aircraft``.
        remembers: the same copy did otherwise in a second episode from the same seed, although the
            environment is repeatable: an episode depends on those before it in its copy.
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
    """Make copies, reset them and step them a little with random actions.

    Args:
        env_factory: makes the copies.
        timeout: seconds after which one counts as hung.
        world: how it will be stepped; a vector implementation is looked at, too.
        approve: asked about the spaces before anything is stepped; raises if they will not do.
        needed: copies that will be open at a time; where that is one, no second is made beside it.
        timed: told the seconds that each step took.
        in_threads: it will be made in one thread and stepped in others, and so it is here.

    Raises:
        EnvironmentCheckError: it hangs, raises, or breaks the contract; says how.
        InputError: it cannot be made.
    """
    # Some take seconds to make: the first copy is the second look's other one, unless it would pass
    # from thread to thread.
    look = TrialPlay(env_factory, approve, needed, timed, keeps=needed > 1 and not in_threads)

    def play(work: Callable[[], Trace]) -> Trace:
        trace: Trace = run_with_deadline(
            work, timeout, env_factory.name, look.describe_activity, in_threads
        )
        return trace

    # What the caller draws from the global generators afterwards must not depend on this look.
    with GlobalChance(), look:
        first = play(look.alone)
        second = play(look.alone if needed == 1 else look.beside_another)
        if world == "vector":
            run_with_deadline(
                look.vector, timeout, env_factory.name, look.describe_activity, in_threads
            )
        if in_threads:
            run_with_deadline(
                look.across_threads, timeout, env_factory.name, look.describe_activity, in_threads
            )
        shares = False
        if first != second and needed > 1:
            chance = GlobalChance()
            alone = [play(chance.repeat(look.alone)) for _ in range(2)]
            beside = play(chance.repeat(look.beside_another_with_its_own_chance))
            repeats = alone[0].seeded == alone[1].seeded
            shares = repeats and beside.seeded != alone[0].seeded
            if shares or not repeats:
                run_with_deadline(
                    look.reach, timeout, env_factory.name, look.describe_activity, in_threads
                )
                # What is seen to change is only a name, where what is shown was enough to tell.
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
