"""What an algorithm says: what a worker makes of its rollout, and what is logged of it.

No algorithm knows where workers run, and no launcher knows the algorithm: metrics travel as an
array beside the tuple of their names.
"""

from typing import Any, Protocol, runtime_checkable

from poise.agent.agent import Agent
from poise.learning.discipline import DisciplineName
from poise.trajectory import Gradient, Trajectory

__all__ = ["Algorithm"]


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
        """The names of the K numbers that are logged of each update."""

    def compute(self, agent: Agent, parameters: Any, trajectory: Trajectory) -> tuple[Any, Any]:
        """What a worker makes of its rollout. Pure; traced as a part of the worker's cycle.

        Args:
            agent: what decides.
            parameters: ``[P]`` float32, with which it acted.
            trajectory: what happened, with observations as the network sees them.

        Returns:
            The arrays of what is sent to the server, and ``[K]`` float32 metrics.
        """

    def payload(self, computed: Any, metrics: Any) -> Gradient | Trajectory:
        """What is sent to the server, of what `compute` returned."""
