"""The doctor: examines an environment before training.

The environment is untrusted code: every check has a deadline, and every error becomes a finding.
"""

import contextlib
import dataclasses
import shlex
import warnings
from collections.abc import Callable
from typing import Any

from poise.bench import UNLIMITED
from poise.config import LauncherName, TrainConfig
from poise.doctor.checks import (
    Subject,
    contract,
    describe,
    gymnasium_checker,
    preset_finding,
    unsupported,
)
from poise.doctor.diagnosis import Diagnosis, Finding, Rate
from poise.doctor.random_play import random_play
from poise.doctor.seeding import seeding
from poise.doctor.spawned_process import rendering, spawning
from poise.doctor.speed import copies_rate, one_copy_rate, training_rates
from poise.envs.checked_env import close_environment, forget_closing
from poise.envs.deadlines import run_with_deadline
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.host_envs import HostEnvs
from poise.envs.registry import env_backend
from poise.envs.xla_envs import XlaEnvs
from poise.errors import ConfigError, EnvironmentNotFoundError, PoiseError, UnsupportedSpaceError
from poise.launchers.registry import LAUNCHERS
from poise.launchers.worker_main import leave_unguarded_script
from poise.presets.choice import AUTO, choose_preset
from poise.presets.preset import Preset
from poise.storage.trust import EnvironmentFactory
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.launcher_choice import PARALLEL, clearly_faster, usual_reason
from poise.training.runtime import prepare_jax

__all__ = ["examine"]

Tell = Callable[[Finding | Rate], None]


def examine(
    config: TrainConfig,
    seconds: float = 2.0,
    *,
    factory: EnvironmentFactory | None = None,
    tell: Tell = lambda item: None,
) -> Diagnosis:
    """Examine an environment: how poise would train on it, its problems, and its speed.

    Args:
        config: settings for training; only those about environment, workers and deadline matter.
        seconds: length of each measurement.
        factory: creates the environment, instead of the name in the settings.
        tell: called with each finding and rate as soon as it is available.

    Raises:
        InputError: the environment cannot be found or created, or a setting is invalid.
    """
    leave_unguarded_script()
    forget_closing()
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--seconds is {seconds}, but must be above 0, and finite")
    prepare_jax()
    env_factory = _admit(config, factory)
    preset = choose_preset(AUTO, config.environment)
    used = config if preset is None else preset.applied_to(config)
    # A measurement must not end because the budget is used up.
    used = dataclasses.replace(used, max_steps=UNLIMITED)
    return _Examination(Subject(env_factory, used, seconds), tell, preset, config).run()


def _admit(config: TrainConfig, factory: EnvironmentFactory | None) -> EnvFactory:
    """Find the environment, and create it once."""

    def find() -> EnvFactory:
        env_factory = find_env_factory(config.environment_choice, factory)
        env_backend(env_factory, config.world)
        # Unsupported spaces do not stop the examination: they become a finding.
        with contextlib.suppress(UnsupportedSpaceError):
            close_environment(env_factory.make())
        return env_factory

    try:
        found: EnvFactory = run_with_deadline(find, config.worker_timeout, config.environment)
    except PoiseError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentNotFoundError(
            f"the environment {config.environment} cannot be imported or created: "
            f"{type(error).__name__}: {error}"
        ) from error
    return found


class _Examination:
    """One examination, which collects the findings and rates."""

    def __init__(
        self, subject: Subject, tell: Tell, preset: Preset | None, given: TrainConfig
    ) -> None:
        self._subject = subject
        self._tell = tell
        self._preset = preset
        self._given = given
        self._findings: list[Finding] = []
        self._rates: list[Rate] = []
        self._hung = False

    def run(self) -> Diagnosis:
        subject = self._subject
        components = self._build_components()
        if self._preset is not None and components is not None:
            self._say(preset_finding(self._preset, components.envs.action_space))
        trainable = components is not None and self._look("contract", lambda: contract(subject))
        self._look("gymnasium", lambda: gymnasium_checker(subject))
        if trainable:
            # For an environment that failed above, these checks would only repeat the failure.
            self._look("seeding", lambda: seeding(subject))
            assert components is not None, "it is trainable"
            normalized = components.normalization == "on"
            scaled = components.reward_normalization == "on"
            trainable = self._look(
                "random play", lambda: random_play(subject, normalized=normalized, scaled=scaled)
            )
        processes = False
        if components is not None and not self._hung:
            spawned = spawning(subject, needed=components.placement.launcher.traits.own_processes)
            self._say(spawned)
            processes = spawned.status == "ok"
            patience = subject.config.worker_timeout
            self._look("rendering", lambda: [rendering(subject)], patience)
        command = None
        if components is not None and trainable and not self._hung:
            command = self._measure(components, processes)
        return Diagnosis(
            subject.env_factory.name, tuple(self._findings), tuple(self._rates), command
        )

    def _say(self, item: Finding | Rate) -> None:
        if isinstance(item, Rate):
            self._rates.append(item)
        else:
            self._findings.append(item)
        self._tell(item)

    def _build_components(self) -> RunComponents | None:
        subject = self._subject
        made: list[RunComponents] = []

        def look() -> list[Finding]:
            try:
                made.append(build_components(subject.config, subject.env_factory))
            except UnsupportedSpaceError as error:
                return [unsupported(error)]
            return describe(subject, made[0])

        self._look("spaces", look)
        return made[0] if made else None

    def _look(
        self, name: str, check: Callable[[], list[Finding] | list[Rate]], patience: float = 0.0
    ) -> bool:
        """Run one check with a deadline, extended by ``patience``; True if there is no failure."""
        if self._hung:
            return False
        subject = self._subject

        def guarded() -> list[Any]:
            try:
                return check()
            except (Exception, SystemExit) as error:
                return [_failure(name, error)]

        timeout = subject.config.worker_timeout + patience
        try:
            # Undo changes of the warning filters by a check that hangs and is abandoned.
            with warnings.catch_warnings():
                found = run_with_deadline(guarded, timeout, subject.env_factory.name)
        except PoiseError as error:
            self._hung = True
            found = [
                Finding(
                    name,
                    "failure",
                    str(error),
                    "nothing else was checked; give every wait in the environment a timeout, or "
                    "use a longer --worker-timeout",
                )
            ]
        for item in found:
            self._say(item)
        return not any(isinstance(item, Finding) and item.status == "failure" for item in found)

    def _measure(self, components: RunComponents, processes: bool) -> str | None:
        """Measure speeds, and return the recommended command line."""
        subject, envs = self._subject, components.envs
        self._look("speed", lambda: [one_copy_rate(subject)], subject.seconds)
        if isinstance(envs, HostEnvs | XlaEnvs):
            self._look("speed", lambda: [copies_rate(subject, envs)], subject.seconds)
        if self._hung:
            return None
        launchers = [
            name for name in PARALLEL if processes or not LAUNCHERS[name].traits.own_processes
        ]
        first = training_rates(subject, components, launchers)
        for outcome in first.values():
            self._say(outcome)
        rates = _speeds(first)
        if not rates:
            return None
        flags = self._launcher(components, rates)
        flags += [flag for finding in self._findings for flag in finding.flags]
        return _command(self._given, flags, workers=self._preset is None)

    def _launcher(self, components: RunComponents, rates: dict[LauncherName, float]) -> list[str]:
        """Report how the workers run, and why; return the flags for the recommended launcher."""
        usual = components.placement.launcher.name
        if self._subject.config.launcher != "auto":
            return ["--launcher", usual]
        why = f"auto takes {usual}: {usual_reason(components.envs)}"
        if usual not in rates:
            # An earlier finding says why the usual launcher is not possible.
            launcher = max(rates, key=lambda one: rates[one])
            return ["--launcher", launcher]
        rounds = [rates]
        if clearly_faster(usual, rounds):
            # Other load on the machine may have disturbed a single measurement.
            again = training_rates(self._subject, components, rates, "again")
            for outcome in again.values():
                self._say(outcome)
            rounds.append(_speeds(again))
        found = clearly_faster(usual, rounds)
        if found is None or len(rounds[-1]) < len(rates):
            best = max(rates, key=lambda one: rates[one])
            if best != usual:
                why += f"; {best} was faster here, but not clearly, or not in two measurements"
            elif len(rates) > 1:
                why += "; it was also the fastest here"
            self._say(Finding("launcher", "ok", why))
            return []
        launcher, gain = found
        flags = ("--launcher", launcher)
        self._say(
            Finding(
                "launcher",
                "warning",
                f"{why}. auto does not measure; here, {launcher} trained at least {gain:.1f} times "
                "as fast in two measurements",
                " ".join(flags),
                flags,
            )
        )
        return []


def _speeds(outcomes: dict[LauncherName, Rate | Finding]) -> dict[LauncherName, float]:
    """The steps per second of each launcher that could be measured."""
    return {
        launcher: outcome.steps_per_second
        for launcher, outcome in outcomes.items()
        if isinstance(outcome, Rate)
    }


def _failure(name: str, error: BaseException) -> Finding:
    """The finding for a check that raised an exception."""
    text = str(error) if isinstance(error, PoiseError) else f"{type(error).__name__}: {error}"
    return Finding(
        name,
        "failure",
        text,
        "fix the environment: training would end with the same error, at once or later",
    )


def _command(config: TrainConfig, flags: list[str], *, workers: bool) -> str:
    """The recommended command line; with the number of workers, unless a preset has it."""
    words = ["poise", "train", config.environment]
    if config.env_kwargs:
        words += ["--env-kwargs", *config.env_kwargs]
    if config.wrappers:
        words += ["--wrappers", *config.wrappers]
    if config.ignore_observations:
        words += ["--ignore-observations", *config.ignore_observations]
    if config.world != "auto":
        words += ["--world", config.world]
    if workers or config.workers != TrainConfig(config.environment).workers:
        words += ["--workers", str(config.workers)]
    if config.envs_per_worker != TrainConfig.envs_per_worker:
        words += ["--envs-per-worker", str(config.envs_per_worker)]
    if config.image_axes != TrainConfig.image_axes:
        words += ["--image-axes", config.image_axes]
    if config.normalize_observations != "auto" and "--normalize-observations" not in flags:
        words += ["--normalize-observations", config.normalize_observations]
    return shlex.join([*words, *flags])
