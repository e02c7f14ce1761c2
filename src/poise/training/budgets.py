"""The budgets of a run that goes on: old ones make way, new ones hold from a record onwards."""

import dataclasses
from typing import Any

from poise.config import TrainConfig
from poise.learning.run_state import RunState
from poise.settings import BUDGETS

__all__ = ["budgets_from", "lift_used_up"]


def lift_used_up(config: TrainConfig, given: dict[str, Any], run_state: RunState) -> TrainConfig:
    """Take off the old budgets that ended the run, if others are given: it is to go on.

    Args:
        config: the settings that hold now.
        given: budgets that the user has just given.
        run_state: where the run goes on.
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
    """The budgets that a run went on under, each from a record of its journal.

    Args:
        before: those of ``config.json``; what came after the state is undone.
        run_state: where the run goes on; None begins it.
        changed: settings that hold from there; None leaves them as they were.
    """
    if run_state is None:
        return []
    kept = [one for one in before if one["record"] < run_state.journal_records]
    if changed is not None:
        budgets = {name: getattr(changed, name) for name in BUDGETS}
        kept.append({"record": run_state.journal_records, **budgets})
    return kept
