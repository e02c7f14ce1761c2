"""Settings for an environment whose copies share state: only one copy in each process."""

import dataclasses

from poise.config import PROCESSES, TrainConfig
from poise.errors import EnvironmentCheckError
from poise.launchers.registry import LAUNCHERS
from poise.user_warnings import warn_caller

__all__ = ["one_copy_a_process"]

_DEFAULT_ENVS_PER_WORKER = {field.name: field.default for field in dataclasses.fields(TrainConfig)}[
    "envs_per_worker"
]


def one_copy_a_process(config: TrainConfig, shared: str = "") -> TrainConfig:
    """Return settings under which no process steps two copies.

    Args:
        config: the settings as the user gave them.
        shared: what the copies share, if that is known.

    Raises:
        EnvironmentCheckError: the user asked for a launcher or a number of copies that forbids it.
    """
    shares = (
        f"copies of {config.environment} share a state: stepping one changes what another shows "
        f"({shared or 'a simulator or a variable that belongs to the module or the class'})"
    )
    one = dataclasses.replace(config, envs_per_worker=1, evaluation_copies=1)
    if config.launcher != "auto" and not LAUNCHERS[config.launcher].traits.own_processes:
        if config.workers == 1 and config.envs_per_worker == 1:
            return one
        raise EnvironmentCheckError(
            f"{shares}; keep all state in the object, or use --launcher processes, with one copy a "
            "process (or --workers 1 --envs-per-worker 1)"
        )
    if config.envs_per_worker not in (1, _DEFAULT_ENVS_PER_WORKER):
        raise EnvironmentCheckError(
            f"{shares}; keep all state in the object, or use --envs-per-worker 1, for one copy a "
            "process"
        )
    warn_caller(f"{shares}; each process gets one copy")
    return dataclasses.replace(one, launcher=PROCESSES)
