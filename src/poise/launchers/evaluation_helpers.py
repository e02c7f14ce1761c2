"""What a launcher offers an evaluation: room for a copy, and workers that wait meanwhile."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from poise.learning.evaluation_result import Episode
from poise.trajectory import Snapshot

__all__ = ["NO_HELPERS", "CurrentHelpers", "EvaluationHelpers", "Players", "Task"]


class Task(NamedTuple):
    """Episodes that are to be played.

    Attributes:
        snapshot: what acts; None acts at random.
        seeds: for ``env.reset``, one an episode; they are numbered in this order, from 0.
        sampling: to sample actions, each episode from a seed derived from this one and its number;
            None acts greedily.
        step_budget: no episode need be played after the first ones have taken this many steps.
        step_limit: an episode is cut after this many; by default as the run's settings say.
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
        """Whether any of them can play."""

    def play(
        self, task: Task, alive: Callable[[], None], done: Callable[[int], None]
    ) -> dict[int, Episode]:
        """Play episodes, until all are over or nobody is left who can.

        Args:
            task: what is played.
            alive: called again and again; may raise to give up.
            done: told how many episodes are over, whenever one is.

        Returns:
            What those that are over came to, by number.

        Raises:
            EnvironmentFailureError: the environment raised, or broke its contract.
            WorkerError, DeadlineError: an episode was the end of a second worker that played it.
        """


class EvaluationHelpers(NamedTuple):
    """What the workers offer while the server evaluates.

    Attributes:
        release: makes all workers close their environments until their next cycle.
        players: the workers, where they can play.
    """

    release: Callable[[], None]
    players: Players | None = None


def _nothing() -> None:
    """Nothing trains that could make room."""


NO_HELPERS = EvaluationHelpers(_nothing)


class CurrentHelpers:
    """What the workers offer an evaluation at the moment."""

    def __init__(self) -> None:
        self._helpers = NO_HELPERS

    def offer(self, helpers: EvaluationHelpers) -> None:
        """What is available from now on."""
        self._helpers = helpers

    def release(self) -> None:
        """Close the copies that train, until they are needed again."""
        self._helpers.release()

    def players(self) -> Players | None:
        """Who plays the episodes."""
        return self._helpers.players
