"""Budgets of a resumed run: used-up ones are lifted, new ones hold from a journal record on."""

import dataclasses
from typing import Any

from poise.config import TrainConfig
from poise.learning.run_state import RunState
from poise.settings import BUDGETS

__all__ = ["budgets_from", "lift_used_up"]


def lift_used_up(config: TrainConfig, given: dict[str, Any], run_state: RunState) -> TrainConfig:
    """Lift the budgets that ended the run, if the user gives others so that it continues.

    Args:
        config: the current settings.
        given: budgets that the user has just given.
        run_state: the state that the run resumes from.
    """
    if not given:
        return config
    used = {"max_steps": run_state.steps, "max_episodes": run_state.episode_statistics.episodes}
    lifted: dict[str, Any] = {}
    for name, so_far in used.items():
        limit = getattr(config, name)
        if name not in given and limit is not None and so_far >= limit:
            lifted[name] = None
    return dataclasses.replace(config, **lifted)


def budgets_from(
    before: list[dict[str, Any]], run_state: RunState | None, changed: TrainConfig | None
) -> list[dict[str, Any]]:
    """Return the budgets that a run was resumed under, each with its first journal record.

    Args:
        before: those in ``config.json``; those recorded after the resumed state are dropped.
        run_state: the state that the run resumes from; None starts it over.
        changed: settings that hold from there on; None leaves the budgets unchanged.
    """
    if run_state is None:
        return []
    kept = [one for one in before if one["record"] < run_state.journal_records]
    if changed is not None:
        budgets = {name: getattr(changed, name) for name in BUDGETS}
        kept.append({"record": run_state.journal_records, **budgets})
    return kept
