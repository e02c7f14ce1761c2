"""Which runs have processes that play a share of their long evaluations."""

from poise.config import WorldKind, usable_cores
from poise.errors import ConfigError
from poise.evaluation.player_processes import PlayerProcesses
from poise.launchers.worker_main import pickle_factory
from poise.training.components import RunComponents
from poise.training.process_role import is_command
from poise.training.worker_factory import SpawnedWorkerFactory

__all__ = ["player_processes"]

MOST_PROCESSES = 7
"""An evaluation of 100 episodes leaves little for more of them."""
_KNOWN: tuple[WorldKind, ...] = ("compiled", "xla", "atari", "envpool")
"""Worlds whose environments are of packages that poise knows: they may be made in several processes
at a time, and be killed with them."""


def player_processes(components: RunComponents) -> PlayerProcesses | None:
    """Return the processes that may play a share of a run's evaluations, not started yet; or None.

    Only the ``poise`` command has them: a process that is spawned by a script begins to run it
    again. Where workers are processes, these play.
    """
    placement = components.placement
    cores = min(usable_cores(), MOST_PROCESSES + 1)
    if (
        cores < 2
        or not is_command()
        or components.envs.kind not in _KNOWN
        or components.config.evaluation_copies == 1
        or components.measured.remembers
        or placement.launcher.traits.own_processes
    ):
        return None
    factory = SpawnedWorkerFactory.of(components)
    try:
        payload = pickle_factory(factory.evaluation_player, components.env_factory.name)
    except ConfigError:
        return None
    return PlayerProcesses(payload, cores - 1)
