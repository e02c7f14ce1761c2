"""Asynchronous n-step Q-learning (Mnih et al. 2016, arXiv 1602.01783, Algorithm S2)."""

import dataclasses
from typing import Any, ClassVar

from poise.agent.gradient import advantages_and_targets
from poise.learning.algorithms.action_values import ActionValueLearning
from poise.trajectory import Trajectory

__all__ = ["NStepQ"]


@dataclasses.dataclass(frozen=True)
class NStepQ(ActionValueLearning):
    r"""n-step Q-learning.

    .. math:: G_t = r_t + \gamma r_{t+1} + \dots + \gamma^{n-1} r_{t+n-1}
              + \gamma^n \max_a Q(s_{t+n}, a; \theta^-)

    where t+n is the rollout's end, or the end of the episode if that comes first; the last term is
    0 if the episode terminated there.
    """

    name: ClassVar[str] = "nstep_q"
    backup_lambda: ClassVar[float] = 1.0

    def targets(self, target_values: Any, trajectory: Trajectory) -> tuple[Any, Any]:
        """Return the n-step returns, which are known for every valid step."""
        best = target_values.max(axis=-1)
        _, returns = advantages_and_targets(best, trajectory, self.discount, self.backup_lambda)
        return returns, trajectory.valid
