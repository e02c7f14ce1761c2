"""Wrappers that keep statistics of their own: what to use instead, and true rewards.

Each copy of an environment has its own wrappers, and so its own statistics: a policy is trained on
some of them and scored on others, and its file holds none. Gymnasium's are known by their classes,
other people's by the names that such statistics have had since OpenAI's baselines (``obs_rms``).
"""

from typing import Any

import gymnasium
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from poise.envs.object_contents import attributes
from poise.envs.shared_objects import layers

__all__ = ["statistics_advice", "with_true_rewards"]

_OBSERVATION_STATISTICS = {"obs_rms", "observation_rms", "ob_rms"}
_REWARD_STATISTICS = {"return_rms", "ret_rms", "returns_rms", "reward_rms", "rew_rms"}


def _normalizes_observations(layer: Any) -> bool:
    names = attributes(layer).keys()
    return isinstance(layer, NormalizeObservation) or bool(names & _OBSERVATION_STATISTICS)


def _normalizes_rewards(layer: Any) -> bool:
    names = attributes(layer).keys()
    return isinstance(layer, NormalizeReward) or bool(names & _REWARD_STATISTICS)


def statistics_advice(environment: Any) -> list[str]:
    """A sentence for each kind of statistics that a layer keeps."""
    found = []
    wrapped = layers(environment)
    for layer in wrapped:
        name = type(layer).__qualname__
        if _normalizes_observations(layer):
            found.append(
                f"{name} keeps statistics of its own in each copy, which the policy's "
                "file does not hold: leave it out, and use --normalize-observations on"
            )
        if _normalizes_rewards(layer):
            scored = (
                "; scores are those of the rewards below it" if layer is not wrapped[-1] else ""
            )
            found.append(
                f"{name} keeps statistics of rewards of its own in each copy: leave it out, and "
                f"use --reward-scale{scored}"
            )
    return found


def with_true_rewards(environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment with the rewards below its innermost normaliser of them, if it has one."""
    normalizers: list[Any] = [one for one in layers(environment)[:-1] if _normalizes_rewards(one)]
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
