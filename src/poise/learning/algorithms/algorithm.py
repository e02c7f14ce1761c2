"""What an algorithm says: what a worker makes of its rollout, what the server makes of that.

No algorithm knows where workers run, and no launcher knows the algorithm: metrics travel as an
array beside the tuple of their names.
"""

from typing import Any, Protocol, runtime_checkable

from poise.agent.agent import Agent
from poise.learning.discipline import DisciplineName
from poise.learning.optimizer import OptimizerState, Update
from poise.trajectory import Gradient, Snapshot, Trajectory

__all__ = ["Algorithm", "LearnsFromTrajectories"]


@runtime_checkable
class Algorithm(Protocol):
    """A learning algorithm with its settings; immutable."""

    @property
    def name(self) -> str:
        """As ``--algorithm`` takes it."""

    @property
    def discipline(self) -> DisciplineName:
        """How the workers' updates meet."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the numbers that are logged of each update; the first is the loss."""

    @property
    def worker_metrics(self) -> tuple[str, ...]:
        """The names of the K numbers that workers send with an update: those that are logged, or
        where the server learns from trajectories, what tells whether one is finite."""

    @property
    def target_interval(self) -> int | None:
        """Environment steps after which the target network becomes the network; None without one
        (Mnih et al. 2016, arXiv 1602.01783, Algorithm 1)."""

    def compute(self, agent: Agent, snapshot: Snapshot, trajectory: Trajectory) -> tuple[Any, Any]:
        """What a worker makes of its rollout. Pure; traced as a part of the worker's cycle.

        Args:
            agent: what decides.
            snapshot: with whose parameters it acted, and the target network's where there is one.
            trajectory: what happened, with observations as the network sees them.

        Returns:
            The arrays of what is sent to the server, and ``[K]`` float32 metrics.
        """

    def payload(self, computed: Any, metrics: Any) -> Gradient | Trajectory:
        """What is sent to the server, of what `compute` returned."""


@runtime_checkable
class LearnsFromTrajectories(Protocol):
    """An algorithm whose workers send trajectories, from which the server learns."""

    def learn(
        self,
        agent: Agent,
        update: Update,
        parameters: Any,
        optimizer_state: OptimizerState,
        batch: Trajectory,
        learning_rate: Any,
        key: Any,
    ) -> tuple[Any, OptimizerState, Any]:
        """Change the parameters by a batch, perhaps several times. Pure; compiled by its caller.

        Args:
            agent: what decides.
            update: the optimizer's.
            parameters: ``[P]`` float32.
            optimizer_state: of the optimizer.
            batch: the workers' trajectories, their copies side by side.
            learning_rate: float32 scalar.
            key: a JAX key, for whatever is drawn.

        Returns:
            Parameters, optimizer state, and the numbers that are logged, by `Algorithm.metrics`.
        """
