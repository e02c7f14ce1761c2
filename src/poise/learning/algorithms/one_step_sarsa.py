"""Asynchronous one-step Sarsa (Mnih et al. 2016, arXiv 1602.01783, section 4)."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp

from poise.learning.algorithms.action_values import ActionValueLearning, values_of
from poise.trajectory import Trajectory

__all__ = ["OneStepSarsa"]


@dataclasses.dataclass(frozen=True)
class OneStepSarsa(ActionValueLearning):
    r"""One-step Sarsa: :math:`G_t = r_t + \gamma Q(s_{t+1}, a_{t+1}; \theta^-)`.

    A rollout does not contain the action that follows its last step, so that step is learned from
    only if it terminated its episode.
    """

    name: ClassVar[str] = "one_step_sarsa"

    def targets(self, target_values: Any, trajectory: Trajectory) -> tuple[Any, Any]:
        """Return one-step returns, which are unknown for the rollout's last step."""
        # After a truncation the next action, which only resets, was drawn for the true successor.
        taken = values_of(target_values[:-1], trajectory.actions)
        following = jnp.concatenate([taken[1:], jnp.zeros_like(taken[:1])])
        going = ~trajectory.terminated
        targets = trajectory.rewards + self.discount * following * going
        known = trajectory.valid.at[-1].set(trajectory.valid[-1] & trajectory.terminated[-1])
        return targets, known
