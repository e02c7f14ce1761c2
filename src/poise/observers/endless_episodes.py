"""Warns once that evaluation episodes do not end, if there is no time limit."""

from poise.learning.events import Evaluated, Event
from poise.user_warnings import warn_caller

__all__ = ["EndlessEpisodes"]


class EndlessEpisodes:
    """Warns at the first evaluation in which episodes were cut.

    Args:
        environment: its name.
        has_time_limit: the environment has a time limit, or the user has set one.
    """

    def __init__(self, environment: str, has_time_limit: bool) -> None:
        self._environment = environment
        self._said = has_time_limit

    def __call__(self, when: float, event: Event) -> None:
        """Handle an event."""
        del when
        if self._said or not isinstance(event, Evaluated) or not event.result.selection.cut:
            return
        self._said = True
        score = event.result.selection
        warn_caller(
            f"{score.cut} of {score.episodes} episodes of an evaluation did not end and were cut, "
            f"because {self._environment} has no time limit: register it with max_episode_steps, "
            "or give --wrappers a function that returns gymnasium.wrappers.TimeLimit(env, steps); "
            "--evaluation-step-limit says where to cut"
        )
