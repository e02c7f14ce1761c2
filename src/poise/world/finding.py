"""Finding environments: by Gymnasium id, with the compiled twin where there is one.

Every score is measured on what `make_own` returns: Gymnasium's own environment.
"""

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.experimental.functional import FuncEnv

from poise.errors import EnvironmentNotFoundError
from poise.world.compiled import CompiledWorld
from poise.world.twins import CartPole

__all__ = ["compiled_world", "environment_spec", "make_own"]

TWINS: dict[str, type[FuncEnv[Any, Any, Any, Any, Any, Any, Any]]] = {
    "CartPole-v0": CartPole,
    "CartPole-v1": CartPole,
}
"""Environments written in JAX, each admitted with a test against Gymnasium's own."""

SUGGESTIONS = 3


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Silence Gymnasium's advice to use a newer version: the user has chosen this one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*is out of date.*")
        yield


def environment_spec(name: str) -> EnvSpec:
    """Look an environment up in Gymnasium's registry.

    Raises:
        EnvironmentNotFoundError: with the nearest names.
    """
    spec = gymnasium.registry.get(name)
    if spec is not None:
        return spec
    known = sorted(gymnasium.registry)
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=SUGGESTIONS, cutoff=0.5)
    hint = f"; the nearest names are {', '.join(lowered[one] for one in near)}" if near else ""
    raise EnvironmentNotFoundError(f"there is no environment {name!r} in Gymnasium{hint}")


def make_own(name: str, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """Make Gymnasium's own environment, with its time limit.

    Raises:
        EnvironmentNotFoundError: unknown, or something that it needs is not installed.
    """
    environment_spec(name)
    try:
        with _without_deprecations():
            return gymnasium.make(name, render_mode=render_mode, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise EnvironmentNotFoundError(f"the environment {name} cannot be made: {error}") from error


def compiled_world(name: str, failure_reward: float | None = None) -> CompiledWorld:
    """The compiled twin of an environment.

    Raises:
        EnvironmentNotFoundError: unknown, or without a compiled twin.
    """
    spec = environment_spec(name)
    twin = TWINS.get(name)
    if twin is None:
        raise EnvironmentNotFoundError(
            f"{name} has no compiled twin; those that have are {', '.join(sorted(TWINS))}"
        )
    return CompiledWorld(name, twin(), spec.max_episode_steps, failure_reward)
