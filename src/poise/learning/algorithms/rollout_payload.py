"""The workers' part of the algorithms whose server learns from rollouts."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from poise.agent.agent import Agent
from poise.agent.gradient import network_outputs
from poise.maths.losses import masked_mean
from poise.trajectory import Snapshot, Trajectory

__all__ = ["RolloutPayload"]


class RolloutPayload:
    """Workers send their rollouts, with means that are finite only if the whole rollout is."""

    worker_metrics: ClassVar[tuple[str, ...]] = (
        *("log_probability", "reward", "value", "observation"),
    )
    action_values: ClassVar[bool] = False
    follows_version: ClassVar[bool] = False
    target_interval: ClassVar[int | None] = None

    def compute(self, agent: Agent, snapshot: Snapshot, trajectory: Trajectory) -> tuple[Any, Any]:
        """Return the rollout unchanged, and means over it that are finite only if all of it is."""
        trajectory = jax.tree.map(jnp.asarray, trajectory)
        _, values = network_outputs(agent, snapshot.parameters, trajectory)
        means = [
            masked_mean(trajectory.behaviour_log_probabilities, trajectory.valid),
            masked_mean(trajectory.rewards, trajectory.valid),
            jnp.mean(values),
            _mean_observation(trajectory.observations),
        ]
        return trajectory, jnp.stack(means).astype(jnp.float32)

    def payload(self, computed: Any) -> Trajectory:
        """Return the rollout as NumPy arrays."""
        rollout: Trajectory = jax.tree.map(np.asarray, computed)
        return rollout


def _mean_observation(observations: Any) -> Any:
    """Return the mean of all floating-point numbers observed; 0 if there are none.

    A network may map an infinite observation to finite outputs, from which no gradient is finite.
    """
    leaves = [
        leaf for leaf in jax.tree.leaves(observations) if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return sum((jnp.mean(leaf) for leaf in leaves), start=jnp.float32(0))
