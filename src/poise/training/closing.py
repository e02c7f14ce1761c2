"""Closing environments within a time limit, because any of them may hang."""

from collections.abc import Callable

from poise.config import TrainConfig
from poise.envs.deadlines import run_with_deadline
from poise.errors import EnvironmentCheckError
from poise.evaluation.worker_episodes import copies_of
from poise.launchers.launcher import LauncherTraits
from poise.launchers.supervision import CLOSE_SECONDS

__all__ = ["close_in_time", "close_timeout"]


def close_in_time(
    close: Callable[[], None],
    config: TrainConfig,
    traits: LauncherTraits,
    on_unclosed: Callable[[str], None],
) -> bool:
    """Close environments of this process; those that hang are abandoned.

    Args:
        close: closes them, one after the other.
        config: the run's settings.
        traits: traits of its launcher.
        on_unclosed: called with a message, if environments were abandoned.

    Returns:
        Whether ``close`` returned in time.
    """
    copies = max(config.most_evaluation_copies, config.envs_per_worker)
    if not traits.own_processes:
        copies = max(copies, config.envs_per_worker * config.workers)
    timeout = max(CLOSE_SECONDS, min(CLOSE_SECONDS * copies, config.worker_timeout))
    name = config.environment
    try:
        run_with_deadline(close, timeout, name, elsewhere=traits.several_threads)
    except EnvironmentCheckError:
        on_unclosed(
            f"the environment {name} has not been closed within {timeout:g} s; it is abandoned"
        )
        return False
    return True


def close_timeout(config: TrainConfig) -> float:
    """Return the seconds in which a worker may close all its environments, one after the other."""
    playing = copies_of(0, config.workers, config.most_evaluation_copies)
    together = CLOSE_SECONDS * (config.envs_per_worker + playing)
    return max(CLOSE_SECONDS, min(together, config.worker_timeout))
