"""Wrappers with statistics of their own: advice on what to use instead, and access to true rewards.

Each copy of an environment has its own wrappers and thus its own statistics. A policy would be
trained with some statistics and scored with others, and its file contains none. Gymnasium's
wrappers are recognised by class, others by the attribute names that have been usual since OpenAI's
Baselines (``obs_rms``).
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
    """Return one sentence of advice for each kind of statistics that a wrapper keeps."""
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
                f"use --normalize-rewards on{scored}"
            )
    return found


def with_true_rewards(environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return the environment with the rewards from inside its innermost reward normaliser.

    An environment without a reward normaliser is returned unchanged.
    """
    normalizers: list[Any] = [one for one in layers(environment)[:-1] if _normalizes_rewards(one)]
    if not normalizers:
        return environment
    tap = _Tap(normalizers[-1].env)
    normalizers[-1].env = tap
    return _TrueRewards(environment, tap)


class _Tap(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper that stores the last reward."""

    reward: Any = 0.0

    def step(self, action: Any) -> Any:
        """Step, and store the reward."""
        result = self.env.step(action)
        self.reward = result[1]
        return result


class _TrueRewards(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper that returns the reward stored by an inner tap."""

    def __init__(self, environment: gymnasium.Env[Any, Any], tap: _Tap) -> None:
        super().__init__(environment)
        self._tap = tap

    def step(self, action: Any) -> Any:
        """Step, and return the stored reward."""
        observation, _, *rest = self.env.step(action)
        return observation, self._tap.reward, *rest
