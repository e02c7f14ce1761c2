"""Choosing how to step an environment: compiled twin, XLA functions, vector code, or copies.

Every score is measured on the environment itself (`EnvFactory.make`), however training steps it.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.experimental.functional import FuncEnv

from poise.config import WorldChoice, WorldKind
from poise.envs.env_factory import EnvFactory
from poise.envs.envpool_copies import steps_in_xla
from poise.envs.envpool_ids import envpool_serves, require_envpool
from poise.envs.host_envs import HostEnvs
from poise.envs.jax_envs import JaxEnvs
from poise.envs.reward_shaping import RewardShaping
from poise.envs.twins import (
    Acrobot,
    CartPole,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
)
from poise.envs.vector_env import make_vector_copies
from poise.envs.xla_envs import XlaEnvs, offers_xla_functions
from poise.errors import (
    ConfigError,
    EnvironmentFailureError,
    EnvironmentNotFoundError,
    UnsupportedSpaceError,
)
from poise.settings import known_arguments

__all__ = ["World", "choose_envs", "compiled_names", "env_backend", "is_well_scaled", "register"]

World = JaxEnvs | XlaEnvs | HostEnvs
AnyFuncEnv = FuncEnv[Any, Any, Any, Any, Any, Any, Any]

TWINS: dict[str, Callable[[], AnyFuncEnv]] = {
    "Acrobot-v1": Acrobot,
    "CartPole-v0": CartPole,
    "CartPole-v1": CartPole,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
}
"""Environments written in JAX; a test compares each with Gymnasium's own."""


@known_arguments
def register(name: str, environment: Callable[[], AnyFuncEnv]) -> None:
    """Register a compiled twin of a Gymnasium environment, written in JAX.

    Training then runs inside XLA. Scores are still measured on ``gymnasium.make(name)``, the
    environment that users of the policy will have. It must exist: register your own environment
    with ``gymnasium.register``, including its time limit.

    Args:
        name: the Gymnasium id of the environment.
        environment: a `FuncEnv` class, or a function that makes one: ``initial``, ``transition``,
            ``observation``, ``reward`` and ``terminal`` of one copy, in JAX.

    Raises:
        ConfigError: the environment is not a `FuncEnv`, or has no spaces.
        EnvironmentNotFoundError: the id is not registered with Gymnasium.
    """
    made = environment()
    if not isinstance(made, FuncEnv):
        raise ConfigError(f"{name}: register takes a gymnasium FuncEnv, not {type(made).__name__}")
    for space in ("observation_space", "action_space"):
        if not isinstance(getattr(made, space, None), gymnasium.Space):
            raise ConfigError(f"{name}: the FuncEnv must have an {space}")
    if name not in gymnasium.registry:
        raise EnvironmentNotFoundError(
            f"{name} is not registered with Gymnasium: scores are measured on "
            f"gymnasium.make({name!r}), so register that first"
        )
    TWINS[name] = environment


def is_well_scaled(env_factory: EnvFactory) -> bool:
    """Return whether a twin declares that its observations are around 1, despite missing bounds.

    It does so by its attribute ``well_scaled``.
    """
    if not env_factory.is_plain or env_factory.identity not in TWINS:
        return False
    return bool(getattr(TWINS[env_factory.identity](), "well_scaled", False))


def compiled_names() -> list[str]:
    """Return the names of the environments that have a compiled twin."""
    return sorted(TWINS)


def env_backend(env_factory: EnvFactory, wanted: WorldChoice) -> WorldKind:
    """Choose how to step an environment (``--world``).

    A twin, XLA functions and vector implementations can only replace the plain environment: with
    default arguments and no wrappers. ``auto`` uses a vector implementation only if it has
    next-step autoreset and the observation space of the environment itself.

    Raises:
        ConfigError: the wanted kind is not available for this environment.
        UnsupportedSpaceError: the wanted vector implementation does not match the environment.
    """
    spec = env_factory.spec
    possible: list[WorldKind] = []
    if env_factory.is_plain and env_factory.identity in TWINS:
        possible.append("compiled")
    if offers_xla_functions(env_factory):
        possible.append("xla")
    if env_factory.is_plain and env_factory.is_atari:
        possible.append("atari")
    if envpool_serves(env_factory):
        possible.append("envpool")
    has_vector = spec is not None and spec.vector_entry_point is not None
    if env_factory.is_plain and has_vector and not env_factory.is_atari:
        possible.append("vector")
    possible.append("copies")
    if wanted == "auto":
        best = possible[0]
        return "copies" if best == "vector" and not _vector_serves(env_factory) else best
    if wanted == "envpool":
        require_envpool(env_factory)
    if wanted not in possible:
        raise ConfigError(
            f"--world is {wanted!r}, but with these settings {env_factory.name} only supports "
            + ", ".join(possible)
        )
    return wanted


def _vector_serves(env_factory: EnvFactory) -> bool:
    """Return whether the vector implementation can replace the environment itself."""
    try:
        make_vector_copies(env_factory, 1, env_factory.spaces()[0]).close()
    except UnsupportedSpaceError:
        return False
    except EnvironmentFailureError:
        # It is broken: the check before training reports that.
        return True
    return True


def choose_envs(env_factory: EnvFactory, wanted: WorldChoice, shaping: RewardShaping) -> World:
    """Make the environments to train in; see `env_backend`."""
    kind = env_backend(env_factory, wanted)
    if kind == "compiled":
        spec = env_factory.spec
        limit = None if spec is None else spec.max_episode_steps
        return JaxEnvs(env_factory.name, TWINS[env_factory.identity](), limit, shaping)
    if kind == "xla":
        return XlaEnvs.open(env_factory, kind, shaping)
    if kind == "envpool" and steps_in_xla():
        return XlaEnvs.open(env_factory, kind, shaping)
    return HostEnvs.open(env_factory, kind, shaping)
