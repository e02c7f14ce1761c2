"""Training: from settings to a run's folder with everything that a user asked for."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poise.agent.agent import require_supported
from poise.config import TrainConfig, WorldKind
from poise.errors import (
    ConfigError,
    EnvironmentCheckError,
    FileFormatError,
    InputError,
    RunWriteError,
)
from poise.launchers.child import leave_unguarded_script, pickle_factory
from poise.launchers.main_script import unguarded_script
from poise.learning.journal import StopReason
from poise.runs.assembly import Assembly, assemble, needed_copies
from poise.runs.budgets import budgets_from, lift_used_up
from poise.runs.callback import Callback, Subscriber
from poise.runs.checkpoint import Template, newest_checkpoint, remove_newer
from poise.runs.files import (
    create_run_folder,
    lock_folder,
    passing_folder,
    remove_temporary_files,
    require_changeable,
    write_json,
)
from poise.runs.folder import (
    config_to_json,
    default_run_folder,
    load,
    load_config,
    load_resumptions,
    load_summary,
    run_path,
    with_decisions,
)
from poise.runs.jax_settings import adopt_settings, recorded_settings, settings_restored
from poise.runs.one_copy import one_copy_a_process
from poise.runs.plotting import Draw
from poise.runs.result import TrainResult
from poise.runs.runtime import prepare_jax
from poise.runs.seal import require_unchanged
from poise.runs.session import Session
from poise.runs.signals import StopSignals, handlers_kept
from poise.runs.surroundings import warn_of_differences
from poise.runs.tensorboard import TensorBoard
from poise.runs.trust import EnvironmentFactory, source_from_file
from poise.settings import refuse_settings, require_settings
from poise.validation import shown
from poise.warning import warn_at, warn_caller
from poise.world.checking import EnvironmentTraits, check_environment
from poise.world.copy import forget_closing
from poise.world.deadlines import in_time
from poise.world.finding import world_kind
from poise.world.observations import one_line
from poise.world.source import EnvironmentSource, find_source, import_path
from poise.world.watchdog import can_interrupt

__all__ = ["TrainResult", "resume", "train", "train_config"]

SLOW_STEP_SECONDS = 2e-3
"""A step that takes longer than this makes evaluations sparing. Measured before training, decided
once, and written into ``config.json``, so that the clock has no part in what a replay repeats."""

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
    subscriber: Subscriber | None = None,
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
        subscriber: called with the run's clock, in seconds, and each event; it may raise
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
        subscriber=subscriber,
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
    subscriber: Subscriber | None = None,
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
        subscriber: called with the run's clock, in seconds, and each event, in the main thread.
        factory: makes the environment, instead of what the settings name.
        draw: draws the learning curve; by default in this process.
        tensorboard: write TensorBoard event files into the run's folder, too.
        process_age: seconds that the run's clock has been going already.
    """
    leave_unguarded_script()
    forget_closing()
    started = time.monotonic() - process_age
    callback = _callback(subscriber)
    _require_place(run_dir, keep, tensorboard)
    prepare_jax()
    # An environment may change the current folder.
    folder = (Path(run_dir) if run_dir is not None else default_run_folder(config)).absolute()
    source = find_source(config.environment_choice, factory)
    times: list[float] = []
    traits = _check(config, source, times.append)
    if traits.shares_state:
        config = one_copy_a_process(config, traits.shared)
    assembly = assemble(config, source)
    script = unguarded_script()
    if assembly.launcher == "processes" and config.launcher == "auto" and script is not None:
        warn_at(
            script,
            "the workers run as threads, because worker processes would begin to run your script "
            "again: put the call of poise.train under  if __name__ == '__main__':  for processes",
        )
        assembly.config = config = dataclasses.replace(config, launcher="threads")
    # The median: one step that takes long does not make an environment slow.
    assembly.slow_steps = bool(times) and statistics.median(times) > SLOW_STEP_SECONDS
    assembly.remembers = traits.remembers
    assembly.has_time_limit = source.is_atari or source.time_limit() is not None
    if assembly.launcher == "processes":
        pickle_factory(assembly.worker_factory(), source.name)
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        if not keep:
            folder = stack.enter_context(passing_folder())
        create_run_folder(folder)
        stack.enter_context(lock_folder(folder))
        resolved = assembly.resolved()
        _say_whether_replayable(resolved, traits)
        _write_config(folder, config_to_json(config, resolved))
        followers = []
        if tensorboard:
            board = TensorBoard(folder / "tensorboard", config.record_every)
            followers.append(stack.enter_context(board))
        session = Session(
            assembly,
            folder,
            started,
            quiet,
            followers,
            draw=draw,
            signals=signals,
            new=True,
            callback=callback,
            keep=keep,
        )
        result = session.run()
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
    subscriber: Subscriber | None = None,
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
        subscriber: as for `train`; called with what happens from here on.
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
    callback = _callback(subscriber)
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
    source = source_from_file(old.environment_choice, environment, trust)
    assembly = assemble(with_decisions(config, resolved), source)
    assembly.config = config
    assembly.adopt(resolved)
    with lock_folder(folder), StopSignals() as signals:
        if not given and _has_finished(folder):
            summary = load_summary(folder)
            reason = StopReason[str(summary["stopped"]).upper()]
            if not quiet:
                print(f"{folder} had finished: give it a larger budget to go on")
            return TrainResult(folder, summary, load(folder), reason)
        if resolved.get("replayable") is False:
            warn_caller("this run cannot be replayed exactly, as it said when it began")
        checkpoint = newest_checkpoint(folder, _template(assembly))
        changed = False
        if checkpoint is not None:
            # A budget whose record lay behind the checkpoint is new once more.
            records = checkpoint.cut.journal_records
            changed = bool(given) or (bool(later) and later[-1]["record"] >= records)
        if checkpoint is not None and max_steps is not None and max_steps < checkpoint.cut.steps:
            raise ConfigError(
                f"--max-steps is {max_steps}, but {checkpoint.cut.steps} steps are behind the run"
            )
        if checkpoint is None:
            for name in ("journal", "metrics.jsonl"):
                (folder / name).unlink(missing_ok=True)
        else:
            require_changeable(folder / "journal", folder / "metrics.jsonl")
            warn_of_differences(folder, resolved, assembly)
            assembly.config = config = lift_used_up(config, given, checkpoint.cut)
        cut = checkpoint.cut if checkpoint is not None else None
        resumptions = budgets_from(later, cut, config if changed else None)
        base = old if checkpoint is not None else config
        kept = {**assembly.resolved(), "replayable": resolved.get("replayable")}
        _write_config(folder, config_to_json(base, kept, resumptions))
        # What the end before wrote is no longer true; the best policy so far stays.
        for name in ("summary.json", "final.safetensors", "learning_curve.png"):
            (folder / name).unlink(missing_ok=True)
        remove_temporary_files(folder)
        if checkpoint is not None:
            remove_newer(folder, checkpoint)
        followers = []
        with contextlib.ExitStack() as stack:
            events = folder / "tensorboard"
            if tensorboard or events.is_dir():
                # What the run wrote behind the checkpoint is written once more.
                board = TensorBoard(events, config.record_every, cut.steps if cut else 0)
                followers.append(stack.enter_context(board))
            session = Session(
                assembly,
                folder,
                started,
                quiet,
                followers,
                checkpoint,
                changed,
                signals=signals,
                callback=callback,
            )
            return session.run()


def _callback(subscriber: Subscriber | None) -> Callback:
    """The user's subscriber, if there is one that can be called."""
    if subscriber is not None and not callable(subscriber):
        raise ConfigError(
            f"the subscriber is {shown(subscriber)}, but must be a function of two arguments: the "
            "run's clock, in seconds, and an event"
        )
    return Callback(subscriber)


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
    config: TrainConfig, source: EnvironmentSource, timed: Callable[[float], None]
) -> EnvironmentTraits:
    """Look at an environment before training begins (compiled twins are ours, and in order)."""
    timeout = config.worker_timeout
    kind: WorldKind = in_time(lambda: world_kind(source, config.world), timeout, source.name)
    if kind == "compiled":
        return EnvironmentTraits(repeatable=True, shares_state=False)
    needed = needed_copies(config)

    def check(in_threads: bool) -> EnvironmentTraits:
        return check_environment(
            source, timeout, kind, require_supported, needed, timed, in_threads
        )

    by_default = config.launcher == "auto" and kind in ("atari", "xla")
    if config.launcher != "threads" and not by_default:
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
            f"the environment {source.name} works in the main thread only, and --launcher threads "
            "makes and steps environments in several threads: use --launcher serial or processes "
            f"({one_line(error).removeprefix(source.name + ': ')})"
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


def _template(assembly: Assembly) -> Template:
    return Template(
        snapshot=assembly.first_snapshot(),
        optimizer_state=assembly.initial_optimizer_state(),
        worker_state=assembly.worker_state(),
        moments=assembly.initial_moments(),
        workers=assembly.config.workers,
    )
