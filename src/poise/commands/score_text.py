"""Printing of a score, shared by the commands."""

import json
import math
from typing import Any

from poise.commands.values import terminal_width, wrapped
from poise.number_format import as_given, number, with_interval

__all__ = ["print_score"]


def print_score(
    name: str, kind: str, score: Any, target: float | None, as_json: bool, setup: str = ""
) -> None:
    """Print a score, as text or as one JSON object.

    Args:
        name: the environment's name.
        kind: kind of actions, such as "greedy actions".
        score: the score.
        target: mean return that solves the environment; None if there is no such target.
        as_json: print JSON instead of text.
        setup: text about the environment's configuration, added to the first line.
    """
    solved = None if target is None else bool(score.mean >= target)
    if as_json:
        from poise.learning.event_json import score_to_json  # noqa: PLC0415

        content = {"environment": name, **score_to_json(score)}
        if target is not None:
            content |= {"target_return": target, "solved": solved}
        print(json.dumps(content, indent=2))
        return
    print(f"{name}, {kind}, {score.episodes} episodes{setup}")
    against = () if target is None else (target,)
    if math.isfinite(score.standard_error):
        mean, low, high = with_interval(
            score.mean, score.standard_error, score.low, score.high, *against
        )
        text = f"mean {mean} (standard error)  95% interval {low} to {high}"
    else:
        # A single episode has no standard error.
        text = f"mean {number(score.mean, *against)}"
    text += f"  min {number(score.minimum)}  max {number(score.maximum)}"
    print(wrapped(text, terminal_width()))
    if score.cut:
        print(f"{score.cut} episodes were cut at the step limit")
    if target is not None:
        print(f"{'solved' if solved else 'not solved'}: the target return is {as_given(target)}")
