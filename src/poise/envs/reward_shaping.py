"""Reward shaping for the loss; scores always use the environment's own rewards."""

import dataclasses
from typing import Any

import numpy as np

from poise.maths.namespace import array_namespace

__all__ = ["RewardShaping"]


@dataclasses.dataclass(frozen=True)
class RewardShaping:
    """Changes to the rewards, for the loss only.

    Attributes:
        failure_reward: replaces the reward of a terminating step.
        scale: factor that rewards are multiplied by.
        clip: bound on the magnitude of rewards, applied after scaling.
    """

    failure_reward: float | None = None
    scale: float = 1.0
    clip: float | None = None

    def __call__(self, rewards: Any, terminated: Any) -> Any:
        """Shape ``[...]`` float32 rewards."""
        xp = array_namespace(rewards, terminated)
        if self.failure_reward is not None:
            rewards = xp.where(terminated, np.float32(self.failure_reward), rewards)
        if self.scale != 1.0:
            rewards = rewards * np.float32(self.scale)
        if self.clip is not None:
            rewards = xp.clip(rewards, np.float32(-self.clip), np.float32(self.clip))
        return rewards
