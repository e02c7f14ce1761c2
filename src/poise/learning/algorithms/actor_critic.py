"""The settings that all actor-critic methods share, and how some of them are annealed."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from poise.config import Schedule
from poise.maths.losses import ValueLoss

__all__ = ["ActorCriticSettings"]


@dataclasses.dataclass(frozen=True)
class ActorCriticSettings:
    """Settings of actor-critic methods, which are described in `TrainConfig`.

    Attributes:
        annealing_updates: number of updates after which annealed settings are 0; None if none is
            annealed.
    """

    discount: float
    gae_lambda: float
    normalize_advantages: bool
    value_coefficient: float
    entropy_coefficient: float
    _: dataclasses.KW_ONLY
    value_loss: ValueLoss = "squared"
    entropy_schedule: Schedule = "constant"
    annealing_updates: float | None = None

    def annealed(self, value: float, schedule: Schedule, version: Any) -> Any:
        """Return a setting's value for a version of the parameters.

        Args:
            value: its first value.
            schedule: how it changes.
            version: the version; each one counts as an update with whole rollouts.
        """
        if schedule == "constant":
            return value
        assert self.annealing_updates is not None, "it is known for every schedule"
        left = 1.0 - jnp.asarray(version, jnp.float32) / jnp.float32(self.annealing_updates)
        return jnp.float32(value) * jnp.maximum(left, 0.0)

    @property
    def follows_version(self) -> bool:
        """Whether what a worker computes depends on the version of its snapshot."""
        return self.entropy_schedule != "constant"

    def entropy_weight(self, version: Any) -> Any:
        """Return the weight of the entropy bonus for a version of the parameters."""
        return self.annealed(self.entropy_coefficient, self.entropy_schedule, version)
