"""What the server must know of a run's settings: schedule, budgets and intervals.

All of it depends on what the server has counted, and on nothing else, so that the journal
determines the run.
"""

from typing import NamedTuple

from poise.config import STEP_LIMIT
from poise.learning.algorithms.a3c import A3C
from poise.learning.discipline import DisciplineName
from poise.learning.journal import StopReason

__all__ = ["ServerSettings"]

MIN_STEP_LIMIT = 1_000
EPISODES_TO_LIMIT = 4
"""Where episodes have no time limit, an evaluation's are cut when they are this many times as long
as the longest of training: what does not end by then walks in circles, as a first greedy policy
does."""


class ServerSettings(NamedTuple):
    """Settings of the server; units are environment steps."""

    learning_rate: float
    anneal_steps: int | None
    max_steps: int | None
    max_episodes: int | None
    evaluation_interval: int
    target_return: float | None
    stop_when_solved: bool
    checkpoint_steps: int | None = None
    workers: int = 1
    """How many there are; where they wait for each other, also before they have joined."""
    metrics: tuple[str, ...] = A3C.metrics
    """The names of what an update brings to be logged, as the algorithm gives them."""
    discipline: DisciplineName = A3C.discipline
    """How the workers' updates meet."""
    target_interval: int | None = None
    """Steps after which the target network becomes the network; None without one."""
    max_bad_gradients: int = 10
    selection_episodes: int = 10
    evaluation_thrift: int = 0
    """Steps of training for each step of evaluation, at least, where steps are slow; 0: no such
    bound."""
    stop_when_flat: int | None = None
    """Steps without a better evaluation after which the run ends."""
    step_limit: int | None = STEP_LIMIT
    """An evaluation episode is cut after this many steps; None: as the training's episodes are."""

    def step_limit_after(self, longest: int | None) -> int:
        """Steps after which an evaluation episode is cut.

        Args:
            longest: steps of the longest of the last training episodes, None before the first.
        """
        if self.step_limit is not None:
            return self.step_limit
        return min(STEP_LIMIT, max(MIN_STEP_LIMIT, EPISODES_TO_LIMIT * (longest or 0)))

    def learning_rate_after(self, steps: int) -> float:
        """Constant, or annealed linearly to 0 (Mnih et al. 2016, arXiv 1602.01783, section 5)."""
        if self.anneal_steps is None:
            return self.learning_rate
        return self.learning_rate * max(0.0, 1.0 - steps / self.anneal_steps)

    def used_up(self, steps: int, episodes: int) -> StopReason | None:
        """The budget that is used up, None if there is more."""
        if self.max_steps is not None and steps >= self.max_steps:
            return StopReason.MAX_STEPS
        if self.max_episodes is not None and episodes >= self.max_episodes:
            return StopReason.MAX_EPISODES
        return None

    def is_flat(self, steps: int) -> bool:
        """Whether the run ends after this many steps without a better evaluation."""
        return self.stop_when_flat is not None and steps >= self.stop_when_flat

    def training_before_evaluation(self, steps: int, episodes: int) -> int:
        """Steps of training before the next evaluation, at least, as long as episodes are."""
        expected = self.selection_episodes * steps // max(1, episodes)
        return self.evaluation_thrift * expected

    def state_due(self, steps: int, last: int) -> bool:
        """Whether a checkpoint is due, where they go by steps and the last cut was at ``last``."""
        every = self.checkpoint_steps
        return every is not None and steps // every > last // every
