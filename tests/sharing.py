"""Compiled programs shared by many test runs: compiling takes longer than the runs."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poise.agent.space_json import space_to_json
from poise.envs import registry
from poise.envs.jax_envs import JaxEnvs
from poise.envs.xla_envs import XlaEnvs
from poise.evaluation import supervision
from poise.evaluation.selection_player import SelectionPlayer
from poise.learning.algorithms.algorithm import LearnsFromTrajectories
from poise.learning.host_worker import HostProgram
from poise.learning.jax_worker import JaxProgram
from poise.learning.learner import Learner
from poise.reports import plot_process
from poise.reports.curve_data import Marks
from poise.training import run_report, training_run
from poise.training.components import RunComponents
from poise.training.jax_settings import decisive_settings

# Settings on which no compiled program depends, or only through what `program_key` adds to them.
_FREE = {
    "environment",
    "env_kwargs",
    "wrappers",
    "world",
    "ignore_observations",
    "sticky_actions",
    "hidden_sizes",
    "initial_log_deviation",
    "normalize_rewards",
    "activation",
    "trunk",
    "squash_actions",
    "gaussian_scale",
    "image_axes",
    "normalize_observations",
    "failure_reward",
    "reward_scale",
    "reward_clip",
    "seed",
    "workers",
    "launcher",
    "learning_rate",
    "learning_rate_schedule",
    "max_steps",
    "max_episodes",
    "max_seconds",
    "target_return",
    "stop_when_solved",
    "stop_when_flat",
    "policy",
    "evaluation_interval",
    "evaluation_step_limit",
    "evaluation_copies",
    "selection_episodes",
    "verification_episodes",
    "record_every",
    "checkpoint_every",
    "keep_checkpoints",
    "max_bad_gradients",
    "max_restarts",
    "restart_on_error",
    "worker_timeout",
}
_PROGRAMS: dict[Any, JaxProgram | tuple[Any, Any]] = {}
_LEARNERS: dict[Any, Learner] = {}
_SELECTION_PLAYERS: dict[Any, SelectionPlayer | None] = {}


def share_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile each program once in this process.

    Not for tests that replace functions which XLA traces: others would get their programs.
    """
    compile_anew = RunComponents.compile
    make_player = RunComponents.selection_player.func

    def compile_once(
        components: RunComponents, *alongside: Callable[[], Any], cycle: bool = True
    ) -> None:
        key = program_key(components)
        if key is None or key not in _LEARNERS or (cycle and key not in _PROGRAMS):
            compile_anew(components, *alongside, cycle=cycle)
            if key is not None:
                _keep(components, key, cycle)
            return
        for work in alongside:
            work()
        components.learner = _LEARNERS[key]
        if cycle:
            _give(components, key)

    def shared_player(components: RunComponents) -> SelectionPlayer | None:
        # A run without one has the same programs as a run with one.
        measured = components.measured
        key = program_key(components), measured.selects_in_twin, measured.selects_in_envpool
        if key not in _SELECTION_PLAYERS:
            _SELECTION_PLAYERS[key] = make_player(components)
        return _SELECTION_PLAYERS[key]

    # Of the class, because a run replaces its components by changed copies.
    monkeypatch.setattr(RunComponents, "compile", compile_once)
    monkeypatch.setattr(RunComponents, "selection_player", property(shared_player))


def program_key(components: RunComponents) -> Any:
    """Return all that a run's programs depend on; None if they cannot be shared."""
    agent, envs = components.agent, components.envs
    if isinstance(envs, XlaEnvs):
        return None
    settings = dataclasses.asdict(components.config)
    spaces = agent.observation_space, agent.action_space
    found: list[Any] = [
        repr({name: settings[name] for name in sorted(settings.keys() - _FREE)}),
        *(json.dumps(space_to_json(space)) for space in spaces),
        agent.spec,
        agent.network_factory,
        envs.kind,
        envs.shaping,
        repr(decisive_settings()),
        repr(components.program.spec.algorithm),
    ]
    if isinstance(envs, JaxEnvs):
        twin = registry.TWINS[components.env_factory.identity]
        found += [envs.name, envs.max_episode_steps, twin]
    if isinstance(components.program.spec.algorithm, LearnsFromTrajectories):
        # The learner draws with it.
        found += [components.config.seed]
    return tuple(found)


def _keep(components: RunComponents, key: Any, cycle: bool) -> None:
    assert components.learner is not None
    _LEARNERS[key] = components.learner
    program = components.program
    if isinstance(program, JaxProgram) and cycle:
        _PROGRAMS[key] = program
    elif cycle:
        # Without the environments, which are others in every run.
        _PROGRAMS[key] = program.compiled_update, program.options


def _give(components: RunComponents, key: Any) -> None:
    kept, program = _PROGRAMS[key], components.program
    if isinstance(kept, JaxProgram):
        components.program = kept
    else:
        assert isinstance(program, HostProgram)
        program.compiled_update, program.options = kept


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on plots, for which a file without content stands, and little on baselines."""
    monkeypatch.setattr(run_report, "draw_curve", _draw_nothing)
    # The command line starts a process that draws.
    no_process = contextlib.nullcontext(_draw_nothing)
    monkeypatch.setattr(plot_process, "Plotter", lambda: no_process)
    monkeypatch.setattr(training_run, "import_matplotlib", lambda: None)
    monkeypatch.setattr(supervision, "BASELINE_STEPS", 50)


def _draw_nothing(metrics: Path, output: Path, marks: Marks) -> None:
    output.touch()
