"""The doctor's speed measurements: the environment alone, and training with each launcher."""

import itertools
import time
from collections.abc import Iterable

import numpy as np
from gymnasium.vector.utils import batch_space

from poise.bench import training_rate
from poise.config import LauncherName
from poise.doctor.checks import Subject
from poise.doctor.diagnosis import Finding, Rate, brief
from poise.envs.checked_env import close_environment
from poise.envs.host_envs import HostEnvs
from poise.envs.seeding import Purpose, environment_seed, seed_sequence
from poise.envs.xla_envs import XlaEnvs
from poise.errors import PoiseError
from poise.launchers.registry import LAUNCHERS
from poise.training.components import RunComponents

__all__ = ["copies_rate", "one_copy_rate", "training_rates"]

SAMPLES = 64
"""Number of random actions, sampled before the clock starts and used in turn."""


def one_copy_rate(subject: Subject) -> Rate:
    """Measure one copy of the environment itself with random actions."""
    environment = subject.env_factory.make()
    try:
        space = environment.action_space
        space.seed(0)
        actions = itertools.cycle([space.sample() for _ in range(SAMPLES)])
        environment.reset(seed=0)
        steps, began = 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < subject.seconds or not steps:
            _, _, terminated, truncated, _ = environment.step(next(actions))
            steps += 1
            if terminated or truncated:
                environment.reset()
    finally:
        close_environment(environment)
    return Rate("environment alone, one copy", steps / elapsed)


def copies_rate(subject: Subject, envs: HostEnvs | XlaEnvs) -> Rate:
    """Measure the copies of one worker, stepped as in training, with random actions."""
    count = subject.config.envs_per_worker
    copies = envs.copies(count)
    try:
        space = batch_space(envs.action_space, count)
        space.seed(0)
        actions = itertools.cycle([space.sample() for _ in range(SAMPLES)])
        copies.reset([_seed(index) for index in range(count)])
        valid, steps, began = np.ones(count, np.bool_), 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < subject.seconds or not steps:
            _, _, terminated, truncated = copies.step(next(actions))
            steps += int(np.sum(valid))
            valid = ~(np.asarray(terminated) | np.asarray(truncated)) | ~valid
    finally:
        copies.close()
    return Rate(f"environment alone, {count} copies ({envs.kind})", steps / elapsed)


def training_rates(
    subject: Subject, components: RunComponents, launchers: Iterable[LauncherName], remark: str = ""
) -> dict[LauncherName, Rate | Finding]:
    """Measure a short training, without evaluations, with each launcher.

    Args:
        subject: the environment.
        components: the components of the run; already compiled if there is a remark.
        launchers: the launchers.
        remark: text that distinguishes these measurements from earlier ones.

    Returns:
        For each launcher its rate, or a failure if training failed.
    """
    config = subject.config
    rates: dict[LauncherName, Rate | Finding] = {}
    for launcher in launchers:
        workers = f"{config.workers} worker{'s' if config.workers > 1 else ''}"
        what = f"training, {workers}, {launcher}{remark and f', {remark}'}"
        try:
            if not rates and not remark:
                components.compile()
            rate = training_rate(
                components,
                LAUNCHERS[launcher],
                config.workers,
                subject.seconds,
                config.worker_timeout,
            )
            rates[launcher] = Rate(what, rate)
        except Exception as error:
            text = (
                str(error) if isinstance(error, PoiseError) else f"{type(error).__name__}: {error}"
            )
            advice = "a run would end with this error; fix its cause"
            rates[launcher] = Finding("training", "failure", f"{what}: {brief(text)}", advice)
    return rates


def _seed(index: int) -> int:
    return environment_seed(seed_sequence(0, Purpose.BENCHMARK, index))
