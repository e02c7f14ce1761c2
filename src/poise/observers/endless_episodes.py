"""Says once that evaluation episodes go on without end, where no time limit ends them."""

from poise.learning.events import Evaluated, Event
from poise.user_warnings import warn_caller

__all__ = ["EndlessEpisodes"]


class EndlessEpisodes:
    """Warns at the first evaluation whose episodes had to be cut.

    Args:
        environment: its name.
        has_time_limit: an environment tells of one, or the user has set a limit.
    """

    def __init__(self, environment: str, has_time_limit: bool) -> None:
        self._environment = environment
        self._said = has_time_limit

    def __call__(self, when: float, event: Event) -> None:
        """Look at an event."""
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
