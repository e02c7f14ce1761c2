"""The interface of learning algorithms: what workers compute and how the server learns from it.

Algorithms do not depend on where workers run, and launchers do not depend on the algorithm: metrics
are sent as an array, whose names the algorithm defines.
"""

from typing import Any, Protocol, runtime_checkable

from poise.agent.agent import Agent
from poise.agent.noise import Noise
from poise.learning.discipline import DisciplineName
from poise.learning.optimizer import OptimizerState, Update
from poise.trajectory import Gradient, Snapshot, Trajectory

__all__ = ["Algorithm", "Explores", "LearnsFromTrajectories"]


@runtime_checkable
class Algorithm(Protocol):
    """A learning algorithm with its settings; immutable."""

    @property
    def name(self) -> str:
        """The algorithm's name, as in ``--algorithm``."""

    @property
    def discipline(self) -> DisciplineName:
        """How the workers' updates are combined."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics logged for each update; the first is the loss."""

    @property
    def worker_metrics(self) -> tuple[str, ...]:
        """Names of the K metrics that workers send with an update: the logged ones or, if the
        server learns from trajectories, numbers that show whether the trajectory is finite."""

    @property
    def action_values(self) -> bool:
        """Whether the network computes a value for each action (Q) instead of a policy."""

    @property
    def target_interval(self) -> int | None:
        """Environment steps between copies of the parameters to the target network; None without a
        target network (Mnih et al. 2016, arXiv 1602.01783, Algorithm 1)."""

    @property
    def follows_version(self) -> bool:
        """Whether what workers compute depends on the version of their snapshot."""

    def compute(self, agent: Agent, snapshot: Snapshot, trajectory: Trajectory) -> tuple[Any, Any]:
        """Process a worker's rollout. Pure; traced as a part of the worker's cycle.

        Args:
            agent: the network and action head.
            snapshot: the parameters that acted, and those of the target network if there is one.
            trajectory: the rollout, with scaled observations (`Agent.observe`).

        Returns:
            The arrays for `payload`, and ``[K]`` float32 metrics.
        """

    def payload(self, computed: Any) -> Gradient | Trajectory:
        """Convert the result of `compute` to the payload that is sent to the server."""


@runtime_checkable
class Explores(Protocol):
    """An algorithm that sets how much its workers explore, depending on the run's progress."""

    def explore(self, noise: Any, version: Any, draw: Noise) -> Any:
        """Change the acting noise of a rollout. Pure; for NumPy and JAX arrays.

        Args:
            noise: the noise that the action head drew for ``[T, N]`` actions.
            version: version of the parameters that act.
            draw: draws more noise.
        """


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
        """Update the parameters from a batch, once or more often. Pure; compiled by the caller.

        Args:
            agent: the network and action head.
            update: the optimizer's update function.
            parameters: ``[P]`` float32.
            optimizer_state: the optimizer's state.
            batch: the workers' trajectories, concatenated along the copies' axis.
            learning_rate: float32 scalar.
            key: a JAX key, the source of all randomness.

        Returns:
            Parameters, optimizer state, and the metrics named by `Algorithm.metrics`.
        """
