"""The server's settings: schedule, budgets and intervals.

All decisions made from them depend only on the server's counters, so that the journal determines
the run.
"""

from typing import NamedTuple

from poise.config import STEP_LIMIT
from poise.learning.algorithms.a3c import A3C
from poise.learning.discipline import DisciplineName
from poise.learning.journal import StopReason

__all__ = ["ServerSettings"]

MIN_STEP_LIMIT = 1_000
EPISODES_TO_LIMIT = 4
"""If episodes have no time limit, an evaluation episode is cut when it is this many times as long
as the longest recent training episode. An episode of this length probably never ends: early greedy
policies often walk in circles."""


class ServerSettings(NamedTuple):
    """Settings of the server; intervals and limits are in environment steps."""

    learning_rate: float
    anneal_steps: int | None
    max_steps: int | None
    max_episodes: int | None
    evaluation_interval: int
    target_return: float | None
    stop_when_solved: bool
    checkpoint_steps: int | None = None
    workers: int = 1
    """Number of workers; with a batching discipline, also those that have not joined yet count."""
    metrics: tuple[str, ...] = A3C.metrics
    """Names of the logged metrics, defined by the algorithm."""
    discipline: DisciplineName = A3C.discipline
    """How the workers' updates are combined."""
    target_interval: int | None = None
    """Steps between copies of the parameters to the target network; None without one."""
    max_bad_gradients: int = 10
    selection_episodes: int = 10
    training_ratio: int = 0
    """Minimum training steps for each step of evaluation, for slow environments; 0: no minimum."""
    selection_ratio: int = 0
    """Minimum training steps for each step of selection; 0: no minimum."""
    evaluates_freely: bool = False
    """Whether evaluations need not wait for as many training steps as they take themselves."""
    verifies_improvements: bool = False
    """Whether candidates that seem better than one that solved the environment are verified too."""
    stop_when_flat: int | None = None
    """Steps without a better evaluation after which the run ends."""
    step_limit: int | None = STEP_LIMIT
    """Number of steps after which an evaluation episode is cut; None: derived from the length of
    training episodes."""

    def step_limit_after(self, longest: int | None) -> int:
        """Return the number of steps after which an evaluation episode is cut.

        Args:
            longest: steps of the longest recent training episode; None before the first.
        """
        if self.step_limit is not None:
            return self.step_limit
        return min(STEP_LIMIT, max(MIN_STEP_LIMIT, EPISODES_TO_LIMIT * (longest or 0)))

    def learning_rate_after(self, steps: int) -> float:
        """Return the learning rate: constant, or annealed linearly to 0.

        Mnih et al. 2016 (arXiv 1602.01783), section 5.
        """
        if self.anneal_steps is None:
            return self.learning_rate
        return self.learning_rate * max(0.0, 1.0 - steps / self.anneal_steps)

    def used_up(self, steps: int, episodes: int) -> StopReason | None:
        """Return which budget is used up; None if neither is."""
        if self.max_steps is not None and steps >= self.max_steps:
            return StopReason.MAX_STEPS
        if self.max_episodes is not None and episodes >= self.max_episodes:
            return StopReason.MAX_EPISODES
        return None

    def is_flat(self, steps: int) -> bool:
        """Return whether the run ends after this many steps without a better evaluation."""
        return self.stop_when_flat is not None and steps >= self.stop_when_flat

    def training_before_evaluation(self, steps: int, episodes: int) -> int:
        """Return the minimum steps between evaluations, from the mean length of training episodes.

        Args:
            steps: environment steps so far.
            episodes: training episodes so far.
        """
        expected = self.selection_episodes * steps // max(1, episodes)
        return self.training_ratio * expected

    def state_due(self, steps: int, last: int) -> bool:
        """Return whether a checkpoint by steps is due, when the last one was at step ``last``."""
        every = self.checkpoint_steps
        return every is not None and steps // every > last // every
