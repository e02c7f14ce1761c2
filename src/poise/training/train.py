"""Training: from settings to a run's folder with everything that a user asked for."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from poise.agent.agent import require_supported
from poise.config import THREADS, TrainConfig, WorldKind
from poise.envs.checked_env import forget_closing
from poise.envs.deadlines import run_with_deadline
from poise.envs.env_factory import EnvFactory, find_env_factory, import_path
from poise.envs.observations import one_line
from poise.envs.preflight import EnvironmentTraits, check_environment
from poise.envs.registry import env_backend
from poise.envs.watchdog import can_interrupt
from poise.errors import (
    ConfigError,
    EnvironmentCheckError,
    FileFormatError,
    InputError,
    RunWriteError,
)
from poise.launchers.main_script import unguarded_script
from poise.launchers.registry import LAUNCHERS
from poise.launchers.stop_signals import StopSignals, handlers_kept
from poise.launchers.worker_main import leave_unguarded_script, pickle_factory
from poise.learning.journal import StopReason
from poise.observers.callback import Callback, Callbacks
from poise.observers.tensorboard import TensorBoard
from poise.reports.plot_run import Draw
from poise.settings import refuse_settings, require_settings
from poise.storage.checkpoints.store import Template, newest_checkpoint, remove_newer
from poise.storage.config_digest import require_unchanged
from poise.storage.files import (
    create_run_folder,
    lock_folder,
    passing_folder,
    remove_temporary_files,
    require_changeable,
    write_json,
)
from poise.storage.run_folder import (
    config_to_json,
    default_run_folder,
    load,
    load_config,
    load_resumptions,
    load_summary,
    run_path,
    with_decisions,
)
from poise.storage.trust import EnvironmentFactory, env_factory_from_file
from poise.training.budgets import budgets_from, lift_used_up
from poise.training.components import RunComponents, build_components
from poise.training.decisions import decisions
from poise.training.jax_settings import adopt_settings, recorded_settings, settings_restored
from poise.training.measured_traits import MeasuredTraits
from poise.training.one_copy import one_copy_a_process
from poise.training.placement import needed_copies
from poise.training.provenance import warn_of_differences
from poise.training.result import TrainResult
from poise.training.run_inputs import Audience, ResumePoint, RunPlace
from poise.training.runtime import prepare_jax
from poise.training.training_run import TrainingRun
from poise.training.worker_factory import SpawnedWorkerFactory
from poise.user_warnings import warn_at, warn_caller
from poise.validation import shown

__all__ = ["TrainResult", "resume", "train", "train_config"]

SLOW_STEP_SECONDS = 2e-3
"""A step that takes longer than this makes evaluations sparing. Measured before training, decided
once, and written into ``config.json``, so that the clock has no part in what a replay repeats."""

_STEPPED_OUTSIDE_PYTHON: tuple[WorldKind, ...] = ("atari", "xla")
_FINISHED = {
    reason.name.lower()
    for reason in (
        StopReason.SOLVED,
        StopReason.MAX_STEPS,
        StopReason.MAX_EPISODES,
        StopReason.FLAT,
    )
}


def train(
    environment: str | EnvironmentFactory | TrainConfig = "CartPole-v1",
    *,
    run_dir: str | Path | None = None,
    keep: bool = True,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
    tensorboard: bool = False,
    **settings: Any,
) -> TrainResult:
    """Train an agent, until it solves the environment or a budget is used up.

    Args:
        environment: Gymnasium id, import path ``module:attribute``, a callable that makes the
            environment, or a `TrainConfig` that names one.
        run_dir: a new folder for the run; by default one below ``runs/``.
        keep: leave the run's folder behind. Without it nothing is left, also when training fails
            or is interrupted: what there is to know is in the result.
        quiet: print nothing.
        callbacks: each is called with the run's clock, in seconds, and each event; it may raise
            `StopTraining` to end the run. Whatever else it raises ends the run, too, and is raised
            once what was learned is saved.
        tensorboard: write TensorBoard event files into the run's folder, too.
        **settings: any setting of `TrainConfig`, for example ``seed=1, workers=2``. Whole numbers
            may be written as ``1e4``, ``env_kwargs`` as a dict, ``hidden_sizes`` as one number.

    Raises:
        InputError: a setting, the environment or the folder cannot be used.
        TrainingError: the run failed; what was learned so far is in the folder.
    """
    factory = None
    require_settings(settings)
    if isinstance(environment, TrainConfig):
        config = dataclasses.replace(environment, **settings)
    elif isinstance(environment, str):
        config = TrainConfig(environment, **settings)
    else:
        factory = environment
        config = TrainConfig(import_path(factory), **settings)
    return train_config(
        config,
        run_dir=run_dir,
        keep=keep,
        quiet=quiet,
        callbacks=callbacks,
        factory=factory,
        tensorboard=tensorboard,
    )


@handlers_kept()
def train_config(
    config: TrainConfig,
    *,
    run_dir: str | Path | None = None,
    keep: bool = True,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
    factory: EnvironmentFactory | None = None,
    draw: Draw | None = None,
    tensorboard: bool = False,
    process_age: float = 0.0,
) -> TrainResult:
    """Train with given settings; see `train`.

    Args:
        config: the settings.
        run_dir: a new folder for the run; by default one below ``runs/``.
        keep: leave the run's folder behind.
        quiet: print nothing.
        callbacks: called with the run's clock, in seconds, and each event, in the main thread.
        factory: makes the environment, instead of what the settings name.
        draw: draws the learning curve; by default in this process.
        tensorboard: write TensorBoard event files into the run's folder, too.
        process_age: seconds that the run's clock has been going already.
    """
    leave_unguarded_script()
    forget_closing()
    started = time.monotonic() - process_age
    told = _callbacks(callbacks)
    _require_place(run_dir, keep, tensorboard)
    prepare_jax()
    # An environment may change the current folder.
    folder = (Path(run_dir) if run_dir is not None else default_run_folder(config)).absolute()
    env_factory = find_env_factory(config.environment_choice, factory)
    times: list[float] = []
    traits = _check(config, env_factory, times.append)
    if traits.shares_state:
        config = one_copy_a_process(config, traits.shared)
    components = build_components(config, env_factory)
    script = unguarded_script()
    imports_script = components.placement.launcher.traits.imports_script
    if imports_script and config.launcher == "auto" and script is not None:
        warn_at(
            script,
            "the workers run as threads, because worker processes would begin to run your script "
            "again: put the call of poise.train under  if __name__ == '__main__':  for processes",
        )
        config = dataclasses.replace(config, launcher=THREADS)
    # The median: one step that takes long does not make an environment slow.
    slow = bool(times) and statistics.median(times) > SLOW_STEP_SECONDS
    limited = env_factory.is_atari or env_factory.time_limit() is not None
    measured = MeasuredTraits(slow, traits.remembers, limited)
    components = dataclasses.replace(components, config=config, measured=measured)
    if components.placement.launcher.traits.own_processes:
        pickle_factory(SpawnedWorkerFactory.of(components), env_factory.name)
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        if not keep:
            folder = stack.enter_context(passing_folder())
        create_run_folder(folder)
        stack.enter_context(lock_folder(folder))
        resolved = decisions(components)
        _say_whether_replayable(resolved, traits)
        _write_config(folder, config_to_json(config, resolved))
        observers = []
        if tensorboard:
            board = TensorBoard(folder / "tensorboard", config.record_every)
            observers.append(stack.enter_context(board))
        audience = Audience(quiet, told, observers, draw)
        place = RunPlace(folder, is_new=True, keep=keep)
        result = TrainingRun(components, place, started, audience, signals=signals).run()
        return result if keep else result._replace(folder=None)


@settings_restored()
@handlers_kept()
def resume(
    run: str | Path,
    *,
    quiet: bool = True,
    max_steps: int | None = None,
    max_episodes: int | None = None,
    max_seconds: float | None = None,
    callbacks: Sequence[Callback] = (),
    tensorboard: bool = False,
    environment: EnvironmentFactory | None = None,
    trust: bool = False,
    process_age: float = 0.0,
    **settings: Any,
) -> TrainResult:
    """Go on with a run from its newest checkpoint that is whole; before the first, start it over.

    Under the serial launcher the run becomes, to the last bit, what it would have been; under every
    launcher the whole of it replays.

    Args:
        run: the run's folder.
        quiet: print nothing.
        max_steps: a new budget in environment steps, counted from the run's beginning.
        max_episodes: a new budget in training episodes.
        max_seconds: a new budget in seconds, counted from now. Old budgets that are used up are
            lifted where a new one is given.
        callbacks: as for `train`; called with what happens from here on.
        tensorboard: write TensorBoard event files from here on; a run that wrote them goes on
            with them anyway.
        environment: makes the environment, instead of what the run's file names.
        trust: import the environment that the run's file names by an import path.
        process_age: seconds that the run's clock has been going already.
        **settings: none: a run's settings are fixed. They are refused in a sentence.

    Returns:
        What the run came to; at once, if it had finished and got no larger budget.

    Raises:
        InputError: there is no such run, it is in use, its settings were changed by hand, it has
            checkpoints but none that can be used, or a budget is impossible; nothing was changed.
        TrainingError: the run failed.
    """
    leave_unguarded_script()
    forget_closing()
    started = time.monotonic() - process_age
    refuse_settings(settings)
    told = _callbacks(callbacks)
    folder = run_path(run).absolute()
    old, resolved = load_config(folder)
    require_unchanged(folder)
    budgets = {"max_steps": max_steps, "max_episodes": max_episodes, "max_seconds": max_seconds}
    given: dict[str, Any] = {name: value for name, value in budgets.items() if value is not None}
    later = load_resumptions(folder)
    latest = {name: later[-1].get(name) for name in budgets} if later else {}
    try:
        config = dataclasses.replace(old, **{**latest, **given})
    except ConfigError as error:
        if given:
            raise
        raise FileFormatError(f"{folder / 'config.json'} is damaged: {error}") from error
    prepare_jax()
    adopt_settings(recorded_settings(resolved))
    env_factory = env_factory_from_file(old.environment_choice, environment, trust)
    components = dataclasses.replace(
        build_components(with_decisions(config, resolved), env_factory),
        config=config,
        measured=MeasuredTraits.recorded(resolved),
    )
    with lock_folder(folder), StopSignals() as signals:
        if not given and _has_finished(folder):
            summary = load_summary(folder)
            reason = StopReason[str(summary["stopped"]).upper()]
            if not quiet:
                print(f"{folder} had finished: give it a larger budget to go on")
            return TrainResult(folder, summary, load(folder), reason)
        if resolved.get("replayable") is False:
            warn_caller("this run cannot be replayed exactly, as it said when it began")
        checkpoint = newest_checkpoint(folder, _template(components))
        changed = False
        if checkpoint is not None:
            # A budget whose record lay behind the checkpoint is new once more.
            records = checkpoint.run_state.journal_records
            changed = bool(given) or (bool(later) and later[-1]["record"] >= records)
        if (
            checkpoint is not None
            and max_steps is not None
            and max_steps < checkpoint.run_state.steps
        ):
            raise ConfigError(
                f"--max-steps is {max_steps}, but the run has already taken "
                f"{checkpoint.run_state.steps} steps"
            )
        if checkpoint is None:
            for name in ("journal", "metrics.jsonl"):
                (folder / name).unlink(missing_ok=True)
        else:
            require_changeable(folder / "journal", folder / "metrics.jsonl")
            warn_of_differences(folder, resolved, components)
            config = lift_used_up(config, given, checkpoint.run_state)
            components = dataclasses.replace(components, config=config)
        run_state = checkpoint.run_state if checkpoint is not None else None
        resumptions = budgets_from(later, run_state, config if changed else None)
        base = old if checkpoint is not None else config
        kept = {**decisions(components), "replayable": resolved.get("replayable")}
        _write_config(folder, config_to_json(base, kept, resumptions))
        # What the end before wrote is no longer true; the best policy so far stays.
        for name in ("summary.json", "final.safetensors", "learning_curve.png"):
            (folder / name).unlink(missing_ok=True)
        remove_temporary_files(folder)
        if checkpoint is not None:
            remove_newer(folder, checkpoint)
        observers = []
        with contextlib.ExitStack() as stack:
            events = folder / "tensorboard"
            if tensorboard or events.is_dir():
                # What the run wrote behind the checkpoint is written once more.
                board = TensorBoard(
                    events, config.record_every, run_state.steps if run_state else 0
                )
                observers.append(stack.enter_context(board))
            audience = Audience(quiet, told, observers)
            point = None if checkpoint is None else ResumePoint(checkpoint, changed)
            return TrainingRun(
                components, RunPlace(folder), started, audience, point, signals
            ).run()


def _callbacks(callbacks: Sequence[Callback]) -> Callbacks:
    """The user's callbacks, if they can be called."""
    if callable(callbacks) or not isinstance(callbacks, Sequence):
        raise ConfigError(
            f"callbacks is {shown(callbacks)}, but must be a list of them, as in callbacks=[follow]"
        )
    for callback in callbacks:
        if not callable(callback):
            raise ConfigError(
                f"a callback is {shown(callback)}, but must be a function of two arguments: the "
                "run's clock, in seconds, and an event"
            )
    return Callbacks(callbacks)


def _require_place(run_dir: str | Path | None, keep: bool, tensorboard: bool) -> None:
    """Refuse files for a run that is to keep none."""
    for flag, given in (("--run-dir", run_dir is not None), ("--tensorboard", tensorboard)):
        if given and not keep:
            raise ConfigError(
                f"{flag} is for files that stay, but keep is False, which leaves none: give one of "
                "the two"
            )


def _write_config(folder: Path, content: dict[str, Any]) -> None:
    path = folder / "config.json"
    try:
        write_json(path, content)
    except OSError as error:
        raise RunWriteError(f"{path} cannot be written: {error.strerror or error}") from error


@handlers_kept()
def _check(
    config: TrainConfig, env_factory: EnvFactory, timed: Callable[[float], None]
) -> EnvironmentTraits:
    """Look at an environment before training begins (compiled twins are ours, and in order)."""
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


def _say_whether_replayable(resolved: dict[str, Any], traits: EnvironmentTraits) -> None:
    reasons = []
    if traits.shares_state:
        reasons.append("copies of the environment share a state")
    elif not traits.repeatable:
        reasons.append("the environment does not repeat itself for a seed")
    if resolved["backend"] != "cpu":
        reasons.append("a GPU adds up in no fixed order")
    if reasons:
        warn_caller(f"this run cannot be replayed exactly: {' and '.join(reasons)}")
    resolved["replayable"] = not reasons


def _has_finished(folder: Path) -> bool:
    return (folder / "summary.json").exists() and load_summary(folder)["stopped"] in _FINISHED


def _template(components: RunComponents) -> Template:
    return Template(
        snapshot=components.first_snapshot(),
        optimizer_state=components.initial_optimizer_state(),
        worker_state=components.worker_state(),
        moments=components.initial_moments(),
        workers=components.config.workers,
    )
