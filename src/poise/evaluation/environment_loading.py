"""Environments for saved policies: they are made as in training, and checked for a fit."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from poise.agent.policy import Policy
from poise.envs.checked_env import close_environment
from poise.envs.env_factory import EnvFactory
from poise.errors import UnsupportedSpaceError
from poise.storage.trust import EnvironmentFactory, env_factory_from_file

__all__ = ["environment_of", "maker"]


def environment_of(
    policy: Policy, factory: EnvironmentFactory | None, trust: bool
) -> Callable[..., gymnasium.Env[Any, Any]]:
    """Return a function that makes copies of a policy's environment, and checks that each fits.

    Args:
        policy: names its environment.
        factory: makes the environment, instead of the one that the policy's file names.
        trust: import the environment that the policy's file names by an import path.

    Raises:
        EnvironmentNotFoundError: there is no such environment.
        UntrustedImportError: the file names code to import, but ``trust`` is False.
    """
    return maker(policy, env_factory_from_file(policy.environment, factory, trust))


def maker(policy: Policy, env_factory: EnvFactory) -> Callable[..., gymnasium.Env[Any, Any]]:
    """Return a function that makes copies, and checks that the policy fits each."""

    def make(render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        copy = env_factory.make(render_mode)
        pairs = (
            ("observation", copy.observation_space, policy.observation_space),
            ("action", copy.action_space, policy.action_space),
        )
        for kind, theirs, ours in pairs:
            if not _alike(theirs, ours):
                close_environment(copy)
                raise UnsupportedSpaceError(
                    f"the policy does not fit {env_factory.name}: its {kind} space is {theirs}, "
                    f"but the policy was trained for {ours}"
                )
        return copy

    return make


def _alike(one: Any, other: Any) -> bool:
    """Whether a policy for one space can be used with another; bounds and precision may differ."""
    match one, other:
        case (spaces.Dict(), spaces.Dict()):
            return list(one.spaces) == list(other.spaces) and all(
                _alike(one.spaces[name], other.spaces[name]) for name in one.spaces
            )
        case (spaces.Tuple(), spaces.Tuple()):
            return len(one.spaces) == len(other.spaces) and all(
                _alike(*pair) for pair in zip(one.spaces, other.spaces, strict=True)
            )
        case (spaces.Discrete(), spaces.Discrete()):
            return bool(one.n == other.n and one.start == other.start)
        case (spaces.MultiDiscrete(), spaces.MultiDiscrete()):
            return np.array_equal(one.nvec, other.nvec) and np.array_equal(one.start, other.start)
        case _:
            return type(one) is type(other) and one.shape == other.shape
