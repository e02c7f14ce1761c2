"""Reward shaping for the loss; scores always use the environment's own rewards."""

import dataclasses
from typing import Any

import numpy as np

from poise.maths.namespace import array_namespace

__all__ = ["RewardShaping"]

NORMALIZED_CLIP = np.float32(10.0)
"""Normalised rewards are clipped to this magnitude (OpenAI Baselines' VecNormalize)."""


@dataclasses.dataclass(frozen=True)
class RewardShaping:
    """Changes to the rewards, for the loss only.

    Attributes:
        failure_reward: replaces the reward of a terminating step.
        scale: factor that rewards are multiplied by.
        clip: bound on the magnitude of rewards, applied after scaling.
        return_discount: discount of the return by whose running deviation rewards are divided; None
            if rewards are not normalised.
    """

    failure_reward: float | None = None
    scale: float = 1.0
    clip: float | None = None
    return_discount: float | None = None

    def __call__(self, rewards: Any, terminated: Any) -> Any:
        """Shape ``[...]`` float32 rewards, except for normalising them."""
        xp = array_namespace(rewards, terminated)
        if self.failure_reward is not None:
            rewards = xp.where(terminated, np.float32(self.failure_reward), rewards)
        if self.scale != 1.0:
            rewards = rewards * np.float32(self.scale)
        if self.clip is not None:
            rewards = xp.clip(rewards, np.float32(-self.clip), np.float32(self.clip))
        return rewards

    def normalized(self, rewards: Any, scale: Any) -> Any:
        """Normalise shaped rewards ``[...]``.

        Args:
            rewards: the shaped rewards.
            scale: ``[S]``, 1 / standard deviation of each number that has moments, of which the
                discounted return is the last.
        """
        xp = array_namespace(rewards, scale)
        return xp.clip(rewards * scale[-1], -NORMALIZED_CLIP, NORMALIZED_CLIP)
