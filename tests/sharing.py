"""Compiled programs that many runs of the tests share: compiling takes longer than the runs."""

import dataclasses
from typing import Any

import pytest

from poise.config import TrainConfig
from poise.runs import referee, replay, session, training
from poise.runs.assembly import Assembly, assemble

# What no compiled program depends on.
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

    def assembled(config: TrainConfig, *rest: Any) -> Assembly:
        assembly = assemble(config, *rest)
        assembly.compile = lambda *alongside, cycle=True: compile_once(assembly)  # type: ignore[method-assign]
        return assembly

    def compile_once(assembly: Assembly) -> None:
        settings = dataclasses.asdict(assembly.config)
        key = repr({name: settings[name] for name in sorted(settings.keys() - _FREE)})
        if key not in compiled:
            Assembly.compile(assembly)
            compiled[key] = assembly.program, assembly._update
        assembly.program, assembly._update = compiled[key]

    monkeypatch.setattr(training, "assemble", assembled)
    monkeypatch.setattr(replay, "assemble", assembled)


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on plots and on the baseline of random actions."""
    monkeypatch.setattr(session, "plot_folder", lambda *arguments, **settings: None)
    monkeypatch.setattr(session, "import_matplotlib", lambda: None)
    monkeypatch.setattr(referee, "BASELINE_STEPS", 50)
