"""The doctor's measurements: the environment alone, and training under each launcher."""

import itertools
import time
from collections.abc import Iterable

import numpy as np
from gymnasium.vector.utils import batch_space

from poise.errors import PoiseError
from poise.runs.assembly import Assembly
from poise.runs.bench import training_rate
from poise.runs.diagnosis import Finding, Rate, brief
from poise.runs.doctor_checks import Patient
from poise.runs.launcher_choice import Launcher
from poise.world.copy import close_environment
from poise.world.hosted import HostedWorld
from poise.world.seeding import Purpose, environment_seed, seed_sequence
from poise.world.xla import XlaWorld

__all__ = ["copies_rate", "one_copy_rate", "training_rates"]

SAMPLES = 64
"""Random actions, which are drawn before the clock starts and taken in turn."""


def one_copy_rate(patient: Patient) -> Rate:
    """One copy of the environment itself, with random actions."""
    environment = patient.source.make()
    try:
        space = environment.action_space
        space.seed(0)
        actions = itertools.cycle([space.sample() for _ in range(SAMPLES)])
        environment.reset(seed=0)
        steps, began = 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < patient.seconds or not steps:
            _, _, terminated, truncated, _ = environment.step(next(actions))
            steps += 1
            if terminated or truncated:
                environment.reset()
    finally:
        close_environment(environment)
    return Rate("environment alone, one copy", steps / elapsed)


def copies_rate(patient: Patient, world: HostedWorld | XlaWorld) -> Rate:
    """As many copies as a worker steps together, as it steps them, with random actions."""
    count = patient.config.envs_per_worker
    copies = world.copies(count)
    try:
        space = batch_space(world.action_space, count)
        space.seed(0)
        actions = itertools.cycle([space.sample() for _ in range(SAMPLES)])
        copies.reset([_seed(index) for index in range(count)])
        valid, steps, began = np.ones(count, np.bool_), 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < patient.seconds or not steps:
            _, _, terminated, truncated = copies.step(next(actions))
            steps += int(np.sum(valid))
            valid = ~(np.asarray(terminated) | np.asarray(truncated)) | ~valid
    finally:
        copies.close()
    return Rate(f"environment alone, {count} copies ({world.kind})", steps / elapsed)


def training_rates(
    patient: Patient, assembly: Assembly, launchers: Iterable[Launcher], remark: str = ""
) -> dict[Launcher, Rate | Finding]:
    """Short training, without evaluations, under each launcher; a failure where it fails.

    Args:
        patient: whose environment is trained on.
        assembly: the parts of the training; compiled, if there is a remark.
        launchers: where the workers run.
        remark: what tells these measurements from those before.
    """
    config = patient.config
    rates: dict[Launcher, Rate | Finding] = {}
    for launcher in launchers:
        workers = f"{config.workers} worker{'s' if config.workers > 1 else ''}"
        what = f"training, {workers}, {launcher}{remark and f', {remark}'}"
        try:
            if not rates and not remark:
                assembly.compile()
            rate = training_rate(
                assembly, config.workers, patient.seconds, launcher, config.worker_timeout
            )
            rates[launcher] = Rate(what, rate)
        except Exception as error:
            text = (
                str(error) if isinstance(error, PoiseError) else f"{type(error).__name__}: {error}"
            )
            advice = "a run would end like this; mend what the message says"
            rates[launcher] = Finding("training", "failure", f"{what}: {brief(text)}", advice)
    return rates


def _seed(index: int) -> int:
    return environment_seed(seed_sequence(0, Purpose.BENCHMARK, index))
