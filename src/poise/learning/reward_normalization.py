"""Reward normalisation: rewards divided by the running deviation of their discounted return.

OpenAI Baselines' VecNormalize (also in Stable-Baselines3, and Gymnasium's ``NormalizeReward``).
Every copy's discounted return is followed through its episode. Its moments, one row for each valid
step, are part of the run's statistics, after those of the observations, so that updates carry them
to the server and snapshots bring the deviation back to all workers.
"""

from typing import Any

import jax
import numpy as np

from poise.envs.reward_shaping import RewardShaping
from poise.learning.rollout import RolloutState, Transition
from poise.maths.namespace import array_namespace
from poise.maths.returns import running_return

__all__ = ["first_returns", "follow_returns", "with_returns"]


def first_returns(shaping: RewardShaping, copies: int) -> Any:
    """Return the discounted returns ``[N]`` before the first rollout (see `RolloutState`)."""
    return () if shaping.return_discount is None else np.zeros(copies, np.float32)


def with_returns(rows: Any, discounted_returns: Any) -> Any:
    """Append discounted returns ``[T, N]`` to the numbers ``[T, N, S]`` that have moments.

    Args:
        rows: the numbers; None if there are no others.
        discounted_returns: as in `Transition`; ``()`` if rewards are not normalised.
    """
    if isinstance(discounted_returns, tuple):
        return rows
    xp = array_namespace(discounted_returns)
    column = discounted_returns[..., None].astype(np.float64 if xp is np else np.float32)
    return column if rows is None else xp.concatenate([rows, column], axis=-1)


def follow_returns(
    shaping: RewardShaping, before: RolloutState, transitions: Transition, after: RolloutState
) -> tuple[Transition, RolloutState]:
    """Add the discounted returns to a rollout's transitions and to the state after it.

    Args:
        shaping: changes to the rewards for the loss.
        before: the state before the rollout.
        transitions: the rollout's transitions, leading axes ``[T, N]``.
        after: the state after the rollout.
    """
    if shaping.return_discount is None:
        return transitions, after
    rewards = shaping(transitions.reward.astype(np.float32), transitions.terminated)
    begin, discount = before.discounted_return, np.float32(shaping.return_discount)
    following: Any
    if array_namespace(rewards) is np:
        rows = []
        following = begin
        for reward, first in zip(rewards, transitions.first, strict=True):
            following = running_return(following, reward, first, discount)
            rows.append(following)
        returns: Any = np.stack(rows)
    else:

        def follow(before: Any, step: Any) -> tuple[Any, Any]:
            reward, first = step
            now = running_return(before, reward, first, discount)
            return now, now

        following, returns = jax.lax.scan(follow, begin, (rewards, transitions.first))
    return (
        transitions._replace(discounted_return=returns),
        after._replace(discounted_return=following),
    )
