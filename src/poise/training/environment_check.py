"""The check of an environment before training: it is made and stepped as the launcher will do."""

import statistics
from collections.abc import Callable
from typing import NamedTuple

from poise.agent.agent import require_supported
from poise.config import TrainConfig, WorldKind
from poise.envs.deadlines import run_with_deadline
from poise.envs.env_factory import EnvFactory
from poise.envs.observations import one_line
from poise.envs.preflight import EnvironmentTraits, check_environment
from poise.envs.registry import env_backend
from poise.envs.watchdog import can_interrupt
from poise.errors import EnvironmentCheckError, InputError
from poise.launchers.registry import LAUNCHERS
from poise.launchers.stop_signals import handlers_kept
from poise.training.measured_traits import MeasuredTraits
from poise.training.placement import needed_copies

__all__ = ["CheckedEnvironment", "check_before_training"]

SLOW_STEP_SECONDS = 2e-3
"""Seconds. If a step takes longer than this, a run spends less on evaluations. It is measured and
decided once, before training, and saved in ``config.json``, so that a replay decides the same."""
_STEPPED_OUTSIDE_PYTHON: tuple[WorldKind, ...] = ("atari", "envpool", "xla")


class CheckedEnvironment(NamedTuple):
    """Results of the check.

    Attributes:
        traits: how the environment behaves.
        measured: the measured properties that influence the run.
    """

    traits: EnvironmentTraits
    measured: MeasuredTraits


def check_before_training(config: TrainConfig, env_factory: EnvFactory) -> CheckedEnvironment:
    """Check an environment before training begins.

    Raises:
        InputError: the environment cannot be made, or cannot be trained on with these settings.
    """
    times: list[float] = []
    traits = _check(config, env_factory, times.append)
    # The median: one slow step does not make an environment slow.
    slow = bool(times) and statistics.median(times) > SLOW_STEP_SECONDS
    limited = env_factory.is_atari or env_factory.time_limit() is not None
    return CheckedEnvironment(traits, MeasuredTraits(slow, traits.remembers, limited))


@handlers_kept()
def _check(
    config: TrainConfig, env_factory: EnvFactory, timed: Callable[[float], None]
) -> EnvironmentTraits:
    """Check the environment; poise's own compiled versions need no check."""
    timeout = config.worker_timeout
    kind: WorldKind = run_with_deadline(
        lambda: env_backend(env_factory, config.world), timeout, env_factory.name
    )
    if kind == "compiled":
        return EnvironmentTraits(repeatable=True, shares_state=False)
    needed = needed_copies(config)

    def check(in_threads: bool) -> EnvironmentTraits:
        return check_environment(
            env_factory, timeout, kind, require_supported, needed, timed, in_threads
        )

    if config.launcher == "auto":
        in_threads = kind in _STEPPED_OUTSIDE_PYTHON
    else:
        in_threads = LAUNCHERS[config.launcher].traits.several_threads
    if not in_threads:
        return check(False)
    try:
        return check(True)
    except InputError as error:
        if not can_interrupt():
            raise
        try:
            check(False)
        except InputError:
            raise error from None
        raise EnvironmentCheckError(
            f"{one_line(error)}; it works in the main thread only, and --launcher threads makes "
            "and steps environments in several threads: use --launcher serial or processes"
        ) from error
