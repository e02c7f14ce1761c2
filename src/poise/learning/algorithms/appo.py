"""APPO: asynchronous PPO. IMPALA's batches and V-trace, with PPO's clipped surrogate.

Petrenko et al. 2020 (Sample Factory, arXiv 2006.11751, section 3.4) and Schulman et al. 2017 (arXiv
1707.06347). No worker waits for others; a batch holds as many rollouts as there are workers.
"""

import dataclasses
from typing import Any, ClassVar

from poise.agent.agent import Agent
from poise.agent.gradient import network_outputs
from poise.learning.algorithms.impala import vtrace_of
from poise.learning.algorithms.ppo import PPO
from poise.learning.discipline import DisciplineName
from poise.trajectory import Trajectory

__all__ = ["APPO"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class APPO(PPO):
    """APPO with its settings, which are described in `TrainConfig`."""

    vtrace_rho_clip: float
    vtrace_c_clip: float

    name: ClassVar[str] = "appo"
    discipline: ClassVar[DisciplineName] = "batched"

    def estimate(self, agent: Agent, parameters: Any, batch: Trajectory) -> tuple[Any, Any, Any]:
        """Estimate with V-trace.

        The importance weight of a step is in the surrogate's ratio, so it does not multiply the
        advantage too.
        """
        outputs, values = network_outputs(agent, parameters, batch)
        scores = agent.head.log_probability(outputs[:-1], batch.actions)
        found = vtrace_of(self, scores, values, batch)
        return values[:-1], found.advantages, found.targets
