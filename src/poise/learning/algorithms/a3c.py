"""A3C: asynchronous advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, Algorithm S3).

Each worker sends the gradient of its rollout, which is applied on arrival. Advantages are estimated
with GAE (Schulman et al. 2016, arXiv 1506.02438); with ``gae_lambda`` 1 they are the paper's n-step
advantages.
"""

import dataclasses
from typing import Any, ClassVar

from poise.agent.agent import Agent
from poise.agent.gradient import actor_critic_gradient
from poise.learning.algorithms.actor_critic import ActorCriticSettings
from poise.learning.discipline import DisciplineName
from poise.trajectory import Gradient, Snapshot, Trajectory

__all__ = ["A3C"]


@dataclasses.dataclass(frozen=True)
class A3C(ActorCriticSettings):
    """A3C with its settings, which are described in `TrainConfig`."""

    name: ClassVar[str] = "a3c"
    discipline: ClassVar[DisciplineName] = "asynchronous"
    metrics: ClassVar[tuple[str, ...]] = (
        *("loss", "policy_loss", "value_loss", "entropy"),
        "gradient_norm",
    )
    worker_metrics: ClassVar[tuple[str, ...]] = metrics
    action_values: ClassVar[bool] = False
    target_interval: ClassVar[int | None] = None

    def compute(self, agent: Agent, snapshot: Snapshot, trajectory: Trajectory) -> tuple[Any, Any]:
        """Compute the gradient ``[P]`` with its norm, and loss, terms and gradient norm ``[5]``."""
        gradient, metrics = actor_critic_gradient(
            agent,
            snapshot.parameters,
            trajectory,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
            normalize_advantages=self.normalize_advantages,
            value_coefficient=self.value_coefficient,
            entropy_coefficient=self.entropy_weight(snapshot.version),
            value_loss=self.value_loss,
        )
        # With the norm, clipping need not compute it again.
        return Gradient(gradient, metrics[self.metrics.index("gradient_norm")]), metrics

    def payload(self, computed: Gradient) -> Gradient:
        """Return the gradient, whose arrays are still JAX's, for the optimizer."""
        return computed
