"""Resuming a run from its newest checkpoint."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poise.config import TrainConfig
from poise.envs.checked_env import forget_closing
from poise.errors import ConfigError, FileFormatError
from poise.launchers.stop_signals import StopSignals, handlers_kept
from poise.launchers.worker_main import leave_unguarded_script
from poise.learning.journal import StopReason
from poise.observers.callback import Callback
from poise.settings import refuse_settings
from poise.storage.checkpoints.store import Template, newest_checkpoint, remove_newer
from poise.storage.config_digest import require_unchanged
from poise.storage.files import lock_folder, remove_temporary_files, require_changeable
from poise.storage.run_folder import (
    config_to_json,
    load,
    load_config,
    load_resumptions,
    load_summary,
    run_path,
    with_decisions,
)
from poise.storage.trust import EnvironmentFactory, env_factory_from_file
from poise.training.assembly import build_components
from poise.training.budgets import budgets_from, lift_used_up
from poise.training.components import RunComponents
from poise.training.decisions import decisions
from poise.training.jax_settings import adopt_settings, recorded_settings, settings_restored
from poise.training.measured_traits import MeasuredTraits
from poise.training.provenance import warn_of_differences
from poise.training.result import TrainResult
from poise.training.run_inputs import Audience, ResumePoint, RunPlace
from poise.training.run_start import checked_callbacks, opened_tensorboard, write_config
from poise.training.runtime import prepare_jax
from poise.training.training_run import TrainingRun
from poise.user_warnings import warn_caller

__all__ = ["resume"]

_FINISHED = {
    reason.name.lower()
    for reason in (
        StopReason.SOLVED,
        StopReason.MAX_STEPS,
        StopReason.MAX_EPISODES,
        StopReason.FLAT,
    )
}


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
    """Continue a run from its newest intact checkpoint; without any checkpoint, start it over.

    Under the serial launcher the result is bit for bit the same as without the interruption; under
    every launcher the whole run can be replayed.

    Args:
        run: the run's folder.
        quiet: print nothing.
        max_steps: a new budget in environment steps, counted from the run's beginning.
        max_episodes: a new budget in training episodes, counted from the run's beginning.
        max_seconds: a new budget in seconds, counted from now. If any new budget is given, old
            budgets that are used up are lifted.
        callbacks: as for `train`; called with the events from here on.
        tensorboard: write TensorBoard event files from here on; a run that already has some
            continues to write them in any case.
        environment: makes the environment, instead of the one that the run's file names.
        trust: import the environment that the run's file names by an import path.
        process_age: seconds that the run's clock has already been running.
        **settings: none, because a run's settings are fixed; any setting is an error.

    Returns:
        The run's result; immediately, if it had finished and got no larger budget.

    Raises:
        InputError: there is no such run, it is in use, its settings were changed by hand, it has
            checkpoints but none is usable, or a budget is impossible; nothing was changed.
        TrainingError: the run failed.
    """
    leave_unguarded_script()
    forget_closing()
    started = time.monotonic() - process_age
    refuse_settings(settings)
    checked = checked_callbacks(callbacks)
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
                print(f"{folder} had already finished: give it a larger budget to continue")
            return TrainResult(folder, summary, load(folder), reason)
        if resolved.get("replayable") is False:
            warn_caller("this run cannot be replayed exactly, as was announced when it began")
        checkpoint = newest_checkpoint(folder, _template(components))
        changed = False
        if checkpoint is not None:
            # A budget that was recorded after the checkpoint must be recorded again.
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
        _require_a_clip_range(old, max_steps)
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
        write_config(folder, config_to_json(base, kept, resumptions))
        # The files from the run's earlier end are outdated; the best policy so far stays.
        for name in ("summary.json", "final.safetensors", "learning_curve.png"):
            (folder / name).unlink(missing_ok=True)
        remove_temporary_files(folder)
        if checkpoint is not None:
            remove_newer(folder, checkpoint)
        # Curves that the run wrote after the checkpoint are written again.
        steps = run_state.steps if run_state is not None else 0
        board = opened_tensorboard(folder, tensorboard, config.record_every, steps)
        with board as observers:
            audience = Audience(quiet, checked, observers)
            point = None if checkpoint is None else ResumePoint(checkpoint, changed)
            place = RunPlace(folder)
            return TrainingRun(components, place, started, audience, point, signals).run()


def _require_a_clip_range(config: TrainConfig, max_steps: int | None) -> None:
    """Refuse a budget in which nothing would be learned."""
    annealing = config.annealing_steps
    if "clip_range_schedule" not in config.annealed_settings:
        return
    if max_steps is not None and annealing is not None and max_steps > annealing:
        raise ConfigError(
            f"--max-steps is {max_steps}, but this run's clip range is 0 after {annealing} steps, "
            "and nothing is learned with it: start a new run"
        )


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
