"""Gymnasium's wrappers that keep statistics of their own: what to use instead, and true rewards.

Each copy of an environment has its own wrappers, and so its own statistics: a policy is trained on
some of them and scored on others, and its file holds none.
"""

from typing import Any

import gymnasium
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from poise.world.sharing import layers

__all__ = ["statistics_advice", "with_true_rewards"]


def statistics_advice(environment: Any) -> list[str]:
    """A sentence for each wrapper that keeps statistics."""
    found = []
    for layer in layers(environment):
        if isinstance(layer, NormalizeObservation):
            found.append(
                "NormalizeObservation keeps statistics of its own in each copy, which the policy's "
                "file does not hold: leave it out, and use --normalize-observations on"
            )
        elif isinstance(layer, NormalizeReward):
            found.append(
                "NormalizeReward keeps statistics of its own in each copy: leave it out, and use "
                "--reward-scale; scores are those of the rewards below it"
            )
    return found


def with_true_rewards(environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment with the rewards below its innermost `NormalizeReward`, if it has one."""
    normalizers = [one for one in layers(environment) if isinstance(one, NormalizeReward)]
    if not normalizers:
        return environment
    tap = _Tap(normalizers[-1].env)
    normalizers[-1].env = tap
    return _TrueRewards(environment, tap)


class _Tap(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Remembers the last reward."""

    reward: Any = 0.0

    def step(self, action: Any) -> Any:
        """Step, and remember."""
        result = self.env.step(action)
        self.reward = result[1]
        return result


class _TrueRewards(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives the reward that a tap further in saw."""

    def __init__(self, environment: gymnasium.Env[Any, Any], tap: _Tap) -> None:
        super().__init__(environment)
        self._tap = tap

    def step(self, action: Any) -> Any:
        """Step."""
        observation, _, *rest = self.env.step(action)
        return observation, self._tap.reward, *rest
