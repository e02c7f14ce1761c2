"""EnvPool's C++ environments as a Gymnasium vector environment (Weng et al. 2022).

arXiv 2206.10558. EnvPool steps outside the GIL, in a thread of its own.
"""

import importlib.util
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from poise.envs.env_factory import EnvFactory
from poise.envs.observations import one_line
from poise.errors import (
    ConfigError,
    EnvironmentFailureError,
    InputError,
    UnsupportedSpaceError,
)

__all__ = ["EnvPoolVector", "has_envpool", "make_envpool_vector"]

NO_LIMIT = 2**31 - 1
"""EnvPool's time limit of environments that have none; an int32."""


def has_envpool() -> bool:
    """Return whether EnvPool is installed, without importing it, which takes a second."""
    return importlib.util.find_spec("envpool") is not None


def make_envpool_vector(
    env_factory: EnvFactory, count: int, *, threads: int = 1
) -> "EnvPoolVector":
    """Make N copies in EnvPool, with the time limit that the environment is registered with.

    Args:
        env_factory: factory of a registered environment that EnvPool has.
        count: N.
        threads: EnvPool's own threads, which step the copies.

    Raises:
        ConfigError, UnsupportedSpaceError: EnvPool's environment does not match.
        EnvironmentFailureError: EnvPool cannot be imported, or raises.
    """
    limit = env_factory.time_limit()
    try:
        spaces = env_factory.spaces()
        return EnvPoolVector(env_factory.identity, count, *spaces, limit, threads)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentFailureError(
            f"EnvPool's {env_factory.name} cannot be made: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error


class EnvPoolVector(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """N copies in one pool, with a seed for each, and next-step autoreset.

    An episode that ends by itself in the very step of its time limit counts as truncated only,
    because EnvPool reports one of the two.

    Args:
        name: the Gymnasium id, which EnvPool shares.
        count: N.
        observation_space: observation space of Gymnasium's environment.
        action_space: action space of Gymnasium's environment.
        time_limit: number of steps after which an episode is truncated; None if there is none.
        threads: EnvPool's own threads; one where workers already use all cores.

    Raises:
        ConfigError: EnvPool does not have the environment.
        UnsupportedSpaceError: EnvPool's observations or actions have another shape or kind.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (as in Gymnasium)

    def __init__(
        self,
        name: str,
        count: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        time_limit: int | None,
        threads: int = 1,
    ) -> None:
        import envpool  # an extra, and slow  # noqa: PLC0415

        if name not in envpool.list_all_envs():
            raise ConfigError(f"EnvPool does not have {name}: use --world copies")
        self.num_envs = count
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, count)
        self.action_space = batch_space(action_space, count)
        spec = envpool.make_spec(name)
        seen, given = spec.state_array_spec.get("obs"), spec.action_array_spec.get("action")
        _require_same_kind(name, "observations", seen, observation_space)
        _require_same_kind(name, "actions", given, action_space)
        self.name = name
        self._time_limit = NO_LIMIT if time_limit is None else time_limit
        self._threads = threads
        self.pool: Any = None
        """EnvPool's own object; None before the first reset and after `close`."""

    def make(self, seeds: list[int]) -> Any:
        """Make a pool of N copies, each with its own seed: EnvPool takes them only here."""
        import envpool  # an extra, and slow  # noqa: PLC0415

        pool = envpool.make_gymnasium(
            self.name,
            num_envs=self.num_envs,
            batch_size=self.num_envs,
            num_threads=self._threads,
            max_episode_steps=self._time_limit,
            seed=seeds,
        )
        with warnings.catch_warnings():
            # It describes its observations here; the bounds that it rounds are not used.
            warnings.filterwarnings("ignore", message=r".*precision lowered by casting.*")
            _ = pool.observation_space
        return pool

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all copies, each with its own seed, in a new pool."""
        del options
        if not isinstance(seed, list) or len(seed) != self.num_envs:
            raise ValueError(f"a pool of {self.num_envs} copies needs as many seeds, not {seed}")
        self.pool = self.make(seed)
        observations, _ = self.pool.reset()
        return observations, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all copies; those whose episode has ended are reset instead."""
        # A local reference: in a thread that was abandoned, the pool must outlive the step.
        pool = self.pool
        if pool is None:
            raise ValueError("the pool is closed, or has never been reset")
        observations, rewards, terminated, truncated, _ = pool.step(actions)
        return observations, rewards, terminated, truncated, {}

    def close_extras(self, **kwargs: Any) -> None:
        """Let go of the pool, which ends its threads."""
        del kwargs
        self.pool = None


def _require_same_kind(name: str, what: str, array: Any, space: spaces.Space[Any]) -> None:
    """Check that EnvPool's array differs from a space at most in the width of its numbers."""
    fits = (
        array is not None
        # A leading -1 stands for the number of players: one.
        and tuple(size for size in array.shape if size != -1) == space.shape
        and np.dtype(array.dtype).kind == np.dtype(space.dtype).kind
    )
    if fits and isinstance(space, spaces.Discrete):
        fits = (array.minimum, array.maximum) == (space.start, space.start + space.n - 1)
    if not fits:
        found = "several arrays" if array is None else f"{array.dtype}{list(array.shape)}"
        raise UnsupportedSpaceError(
            f"EnvPool's {name} has {what} {found}, which do not fit {space}: use --world copies"
        )
