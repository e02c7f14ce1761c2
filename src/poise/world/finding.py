"""Finding a world to train in: compiled twin, XLA functions, vector implementation, or copies.

Every score is measured on the environment itself (`EnvironmentSource.make`), whatever the world.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.experimental.functional import FuncEnv

from poise.config import WorldChoice, WorldKind
from poise.errors import (
    ConfigError,
    EnvironmentFailureError,
    EnvironmentNotFoundError,
    UnsupportedSpaceError,
)
from poise.world.compiled import CompiledWorld
from poise.world.hosted import HostedWorld
from poise.world.rewards import RewardShaping
from poise.world.source import EnvironmentSource
from poise.world.twins import (
    Acrobot,
    CartPole,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
)
from poise.world.vector import make_vector_copies
from poise.world.xla import XlaWorld, offers_xla_functions

__all__ = ["World", "choose_world", "compiled_names", "is_well_scaled", "register", "world_kind"]

World = CompiledWorld | XlaWorld | HostedWorld
AnyFuncEnv = FuncEnv[Any, Any, Any, Any, Any, Any, Any]

_TWINS: dict[str, Callable[[], AnyFuncEnv]] = {
    "Acrobot-v1": Acrobot,
    "CartPole-v0": CartPole,
    "CartPole-v1": CartPole,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
}
"""Environments written in JAX, each admitted with a test against Gymnasium's own."""


def register(name: str, environment: Callable[[], AnyFuncEnv]) -> None:
    """Register a compiled environment of one's own, or a compiled twin of a Gymnasium one.

    Training then runs inside XLA; scores are still measured on ``gymnasium.make(name)``, which must
    exist and is what users of the policy will meet: register that with ``gymnasium.register``,
    with its time limit, too.

    Args:
        name: the Gymnasium id that it is a twin of.
        environment: a `FuncEnv` class, or a function that makes one: ``initial``, ``transition``,
            ``observation``, ``reward`` and ``terminal`` of one copy, in JAX.

    Raises:
        ConfigError: it is no `FuncEnv` with spaces.
        EnvironmentNotFoundError: Gymnasium knows no such id.
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
    _TWINS[name] = environment


def is_well_scaled(source: EnvironmentSource) -> bool:
    """Whether a twin says that what is observed is around 1, though no bounds tell.

    A twin says so by its attribute ``well_scaled``.
    """
    if not source.is_plain or source.identity not in _TWINS:
        return False
    return bool(getattr(_TWINS[source.identity](), "well_scaled", False))


def compiled_names() -> list[str]:
    """The environments that have a compiled twin."""
    return sorted(_TWINS)


def world_kind(source: EnvironmentSource, wanted: WorldChoice) -> WorldKind:
    """Which kind of world an environment gets.

    A twin, XLA functions and vector implementations serve only the plain environment: with default
    arguments and no wrappers. ``auto`` takes a vector implementation only if it resets as poise
    needs it and shows what the environment itself does.

    Raises:
        ConfigError: the wanted kind is not to be had for this environment.
        UnsupportedSpaceError: the wanted vector implementation cannot stand for the environment.
    """
    spec = source.spec
    possible: list[WorldKind] = []
    if source.is_plain and source.identity in _TWINS:
        possible.append("compiled")
    if offers_xla_functions(source):
        possible.append("xla")
    if source.is_plain and source.is_atari:
        possible.append("atari")
    has_vector = spec is not None and spec.vector_entry_point is not None
    if source.is_plain and has_vector and not source.is_atari:
        possible.append("vector")
    possible.append("copies")
    if wanted == "auto":
        best = possible[0]
        return "copies" if best == "vector" and not _vector_serves(source) else best
    if wanted not in possible:
        raise ConfigError(
            f"--world is {wanted!r}, but for {source.name} as it is configured there is only "
            + ", ".join(possible)
        )
    return wanted


def _vector_serves(source: EnvironmentSource) -> bool:
    """Whether a vector implementation can stand for the environment itself."""
    try:
        make_vector_copies(source, 1, source.spaces()[0]).close()
    except UnsupportedSpaceError:
        return False
    except EnvironmentFailureError:
        # Broken, and to be reported as that.
        return True
    return True


def choose_world(source: EnvironmentSource, wanted: WorldChoice, shaping: RewardShaping) -> World:
    """The world to train in; see `world_kind`."""
    kind = world_kind(source, wanted)
    if kind == "compiled":
        spec = source.spec
        limit = None if spec is None else spec.max_episode_steps
        return CompiledWorld(source.name, _TWINS[source.identity](), limit, shaping)
    if kind == "xla":
        return XlaWorld.open(source, shaping)
    return HostedWorld.open(source, kind, shaping)
