"""Compiled programs shared by many test runs: compiling takes longer than the runs."""

import dataclasses
from typing import Any

import pytest

from poise.config import TrainConfig
from poise.evaluation import supervision
from poise.replaying import replay
from poise.training import resume, run_report, train, training_run
from poise.training.assembly import build_components
from poise.training.components import RunComponents

# Settings on which no compiled program depends.
_FREE = {
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
    "evaluation_interval",
    "evaluation_step_limit",
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


def share_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile each program once for all runs."""
    compiled: dict[Any, tuple[Any, Any]] = {}

    def built(config: TrainConfig, *rest: Any) -> RunComponents:
        components = build_components(config, *rest)
        components.compile = lambda *alongside, cycle=True: compile_once(components)  # type: ignore[method-assign]
        return components

    def compile_once(components: RunComponents) -> None:
        settings = dataclasses.asdict(components.config)
        key = repr({name: settings[name] for name in sorted(settings.keys() - _FREE)})
        if key not in compiled:
            RunComponents.compile(components)
            compiled[key] = components.program, components.learner
        components.program, components.learner = compiled[key]

    for module in (train, resume, replay):
        monkeypatch.setattr(module, "build_components", built)


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on plots and on the baseline of random actions."""
    monkeypatch.setattr(run_report, "plot_folder", lambda *arguments, **settings: None)
    monkeypatch.setattr(training_run, "import_matplotlib", lambda: None)
    monkeypatch.setattr(supervision, "BASELINE_STEPS", 50)
