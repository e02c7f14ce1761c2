"""Training: from settings to a run's folder with all its files."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poise.agent.actions import has_continuous_actions
from poise.config import THREADS, TrainConfig
from poise.envs.checked_env import forget_closing
from poise.envs.env_factory import find_env_factory
from poise.envs.env_lookup import import_path
from poise.envs.jax_envs import JaxEnvs
from poise.envs.preflight import EnvironmentTraits
from poise.errors import ConfigError
from poise.launchers.main_script import unguarded_script
from poise.launchers.stop_signals import StopSignals, handlers_kept
from poise.launchers.worker_main import leave_unguarded_script, pickle_factory
from poise.observers.callback import Callback
from poise.presets.choice import AUTO, NONE, choose_preset, explained
from poise.presets.preset import Preset
from poise.reports.plot_run import Draw
from poise.settings import require_settings
from poise.storage.files import create_run_folder, lock_folder, passing_folder
from poise.storage.run_folder import config_to_json, default_run_folder
from poise.storage.trust import EnvironmentFactory
from poise.training.assembly import build_components
from poise.training.decisions import decisions
from poise.training.environment_check import check_before_training
from poise.training.one_copy import one_copy_a_process
from poise.training.result import TrainResult
from poise.training.run_inputs import Audience, RunPlace
from poise.training.run_start import checked_callbacks, opened_tensorboard, write_config
from poise.training.runtime import prepare_jax
from poise.training.training_run import TrainingRun
from poise.training.worker_factory import SpawnedWorkerFactory
from poise.user_warnings import warn_at, warn_caller

__all__ = ["TrainResult", "train", "train_config"]


def train(
    environment: str | EnvironmentFactory | TrainConfig = "CartPole-v1",
    *,
    run_dir: str | Path | None = None,
    keep: bool = True,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
    tensorboard: bool = False,
    preset: str = AUTO,
    **settings: Any,
) -> TrainResult:
    """Train an agent until it solves the environment or a budget is used up.

    Args:
        environment: Gymnasium id, import path ``module:attribute``, a callable that makes the
            environment, or a `TrainConfig` that names one.
        run_dir: a new folder for the run; by default one below ``runs/``.
        keep: keep the run's folder. If False, no files remain, even if training fails or is
            interrupted; the result still holds the summary and the policy.
        quiet: print nothing.
        callbacks: each is called with the run's clock, in seconds, and each event. It may raise
            `StopTraining` to end the run. Any other exception ends the run, too, and is raised
            after the training so far has been saved.
        tensorboard: also write TensorBoard event files into the run's folder.
        preset: settings to use instead of the defaults: ``auto`` (poise's preset for the
            environment, if it has one), ``none``, the name of one of poise's presets, or a TOML
            file. ``auto`` changes nothing in a `TrainConfig`, all of whose settings are chosen.
        **settings: any setting of `TrainConfig`, for example ``seed=1, workers=2``; they have
            priority over the preset. Whole numbers
            may be written as ``1e4``, ``env_kwargs`` as a dict, ``hidden_sizes`` as one number.

    Raises:
        InputError: a setting, the environment or the folder is not usable.
        TrainingError: the run failed; the training so far is saved in the folder.
    """
    factory = None
    require_settings(settings)
    if isinstance(environment, TrainConfig):
        chosen = choose_preset(NONE if preset == AUTO else preset, environment.environment)
        config = dataclasses.replace(environment, **{**_settings(chosen), **settings})
    else:
        if isinstance(environment, str):
            name = environment
        else:
            factory, name = environment, import_path(environment)
        chosen = choose_preset(preset, name, settings.get("algorithm"))
        with explained(chosen):
            config = TrainConfig(name, **{**_settings(chosen), **settings})
    return train_config(
        config,
        run_dir=run_dir,
        keep=keep,
        quiet=quiet,
        callbacks=callbacks,
        factory=factory,
        tensorboard=tensorboard,
        preset=chosen,
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
    preset: Preset | None = None,
    process_age: float = 0.0,
) -> TrainResult:
    """Train with given settings; see `train`.

    Args:
        config: the settings.
        run_dir: a new folder for the run; by default one below ``runs/``.
        keep: keep the run's folder.
        quiet: print nothing.
        callbacks: called with the run's clock, in seconds, and each event, in the main thread.
        factory: makes the environment, instead of the one that the settings name.
        draw: draws the learning curve; by default in this process.
        tensorboard: also write TensorBoard event files into the run's folder.
        preset: the preset that the settings come from, in part.
        process_age: seconds that the run's clock has already been running.
    """
    leave_unguarded_script()
    forget_closing()
    started = time.monotonic() - process_age
    checked = checked_callbacks(callbacks)
    _require_place(run_dir, keep, tensorboard)
    prepare_jax()
    # An environment may change the current working directory.
    folder = (Path(run_dir) if run_dir is not None else default_run_folder(config)).absolute()
    env_factory = find_env_factory(config.environment_choice, factory)
    traits, measured = check_before_training(config, env_factory)
    if traits.shares_state:
        config = one_copy_a_process(config, traits.shared)
    if config.annealed_settings and config.annealing_steps is None:
        # Recorded, because the run may be resumed with another budget.
        config = dataclasses.replace(config, annealing_steps=config.max_steps)
    components = build_components(config, env_factory)
    if preset is not None:
        preset.require_actions(has_continuous_actions(components.envs.action_space))
    script = unguarded_script()
    imports_script = components.placement.launcher.traits.imports_script
    if imports_script and config.launcher == "auto" and script is not None:
        warn_at(
            script,
            "the workers run as threads, because worker processes would begin to run your script "
            "again: put the call of poise.train under  if __name__ == '__main__':  for processes",
        )
        config = dataclasses.replace(config, launcher=THREADS)
    has_twin = isinstance(components.envs, JaxEnvs)
    measured = measured._replace(
        selects_in_twin=has_twin,
        selects_sparingly=True,
        checks_in_twin=has_twin,
        verifies_improvements=True,
        selects_in_envpool=components.envs.kind == "envpool",
    )
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
        resolved["preset"] = preset and preset.name
        _say_whether_replayable(resolved, traits)
        write_config(folder, config_to_json(config, resolved))
        observers = stack.enter_context(
            opened_tensorboard(folder, tensorboard, config.record_every)
        )
        audience = Audience(quiet, checked, observers, draw, preset.name if preset else None)
        place = RunPlace(folder, is_new=True, keep=keep)
        result = TrainingRun(components, place, started, audience, signals=signals).run()
        return result if keep else result._replace(folder=None)


def _settings(preset: Preset | None) -> Mapping[str, Any]:
    return {} if preset is None else preset.settings


def _require_place(run_dir: str | Path | None, keep: bool, tensorboard: bool) -> None:
    """Reject options about files if the run is to keep none."""
    for flag, given in (("--run-dir", run_dir is not None), ("--tensorboard", tensorboard)):
        if given and not keep:
            raise ConfigError(
                f"{flag} is about files that are kept, but keep is False, which keeps none: use "
                "only one of the two"
            )


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
