"""The budgets of a run that goes on: old ones make way, new ones hold from a record onwards."""

import dataclasses
from typing import Any

from poise.config import TrainConfig
from poise.learning.cut import Cut
from poise.settings import BUDGETS

__all__ = ["budgets_from", "lift_used_up"]


def lift_used_up(config: TrainConfig, given: dict[str, Any], cut: Cut) -> TrainConfig:
    """Take off the old budgets that ended the run, if others are given: it is to go on.

    Args:
        config: the settings that hold now.
        given: budgets that the user has just given.
        cut: where the run goes on.
    """
    if not given:
        return config
    used = {"max_steps": cut.steps, "max_episodes": cut.tally.episodes}
    lifted: dict[str, Any] = {}
    for name, so_far in used.items():
        limit = getattr(config, name)
        if name not in given and limit is not None and so_far >= limit:
            lifted[name] = None
    return dataclasses.replace(config, **lifted)


def budgets_from(
    before: list[dict[str, Any]], cut: Cut | None, changed: TrainConfig | None
) -> list[dict[str, Any]]:
    """The budgets that a run went on under, each from a record of its journal.

    Args:
        before: those of ``config.json``; what lay behind the cut is undone.
        cut: where the run goes on; None begins it.
        changed: settings that hold from there; None leaves them as they were.
    """
    if cut is None:
        return []
    kept = [one for one in before if one["record"] < cut.journal_records]
    if changed is not None:
        budgets = {name: getattr(changed, name) for name in BUDGETS}
        kept.append({"record": cut.journal_records, **budgets})
    return kept
