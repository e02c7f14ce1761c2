"""What a launcher offers an evaluation: freeing copies, and idle workers that play episodes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from poise.learning.evaluation_result import Episode
from poise.trajectory import Snapshot

__all__ = ["NO_HELPERS", "CurrentHelpers", "EvaluationHelpers", "Players", "Task"]


class Task(NamedTuple):
    """Episodes to play.

    Attributes:
        snapshot: the policy that acts; None acts at random.
        seeds: one for each episode's ``env.reset``; episodes are numbered in this order, from 0.
        sampling: seed for sampling actions: each episode derives its own from it and its number;
            None acts greedily.
        step_budget: no further episode is needed once the first ones have taken this many steps.
        step_limit: an episode is cut after this many steps; by default, as the run's settings say.
    """

    snapshot: Snapshot | None
    seeds: Sequence[int]
    sampling: np.random.SeedSequence | None = None
    step_budget: int | None = None
    step_limit: int | None = None


@runtime_checkable
class Players(Protocol):
    """Workers that play an evaluation's episodes."""

    def are_there(self) -> bool:
        """Whether at least one of them can play."""

    def play(
        self, task: Task, alive: Callable[[], None], done: Callable[[int], None]
    ) -> dict[int, Episode]:
        """Play episodes until all are finished or no worker is left that can play.

        Args:
            task: the episodes to play.
            alive: called again and again; may raise to abort.
            done: called with the number of finished episodes, each time one finishes.

        Returns:
            The results of the finished episodes, by number.

        Raises:
            EnvironmentFailureError: the environment raised, or broke its contract.
            WorkerError, DeadlineError: a second worker failed on the same episode.
        """


class EvaluationHelpers(NamedTuple):
    """What the workers offer while the server evaluates.

    Attributes:
        release: makes all workers close their environments until their next cycle.
        players: the workers as players; None if they cannot play.
    """

    release: Callable[[], None]
    players: Players | None = None


def _nothing() -> None:
    """Default for `release`: no worker is training, so there is nothing to close."""


NO_HELPERS = EvaluationHelpers(_nothing)


class CurrentHelpers:
    """What the workers currently offer an evaluation."""

    def __init__(self) -> None:
        self._helpers = NO_HELPERS

    def offer(self, helpers: EvaluationHelpers) -> None:
        """Replace what is offered, from now on."""
        self._helpers = helpers

    def release(self) -> None:
        """Close the training copies of the environment until they are needed again."""
        self._helpers.release()

    def players(self) -> Players | None:
        """Return the players that are currently available, or None."""
        return self._helpers.players
