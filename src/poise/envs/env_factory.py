"""Making environments from a Gymnasium id, an import path, or a Python callable.

Every score is measured on what `EnvFactory.make` returns: the environment itself, with its
time limit and the user's wrappers.
"""

import contextlib
import dataclasses
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from poise.config import EnvironmentChoice, is_atari_name
from poise.envs.atari import make_atari
from poise.envs.checked_env import close_environment
from poise.envs.env_lookup import import_callable, parse_keyword_arguments, resolve_name
from poise.envs.ignore_wrapper import IgnoreObservations
from poise.envs.modules import missing_extra
from poise.envs.mujoco_warnings import remarks_once
from poise.errors import (
    ConfigError,
    EnvironmentNotFoundError,
    UnsupportedSpaceError,
)

__all__ = [
    "EnvFactory",
    "find_env_factory",
    "known_time_limit",
    "without_deprecations",
]

_EXAMPLES = {
    "observation": "Box(low, high, shape, dtype)",
    "action": "Discrete(n)",
}
"""Examples for the message about a missing space."""


@dataclasses.dataclass(frozen=True)
class EnvFactory:
    """Makes copies of one environment.

    Attributes:
        name: the environment's name, as the user wrote it.
        factory: makes the environment, if it is not registered with Gymnasium.
        keyword_arguments: arguments for the environment's constructor or the factory.
        wrappers: wrappers applied to every copy, in order.
        sticky_actions: Atari only: probability that the previous action is repeated.
        ignore_observations: parts of the observations that are left out.
        registration: the environment's Gymnasium registration in the process that found it; a
            spawned process may not import the script that registered it.
    """

    name: str
    factory: Callable[..., gymnasium.Env[Any, Any]] | None = None
    keyword_arguments: tuple[tuple[str, Any], ...] = ()
    wrappers: tuple[Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]], ...] = ()
    sticky_actions: float = 0.0
    ignore_observations: tuple[str, ...] = ()
    registration: EnvSpec | None = dataclasses.field(default=None, compare=False)
    _spaces: list[tuple[gymnasium.Space[Any], gymnasium.Space[Any]]] = dataclasses.field(
        default_factory=list, init=False, compare=False, repr=False
    )
    """Spaces of the first copy, cached because some environments take seconds to make."""
    _limits: list[int | None] = dataclasses.field(
        default_factory=list, init=False, compare=False, repr=False
    )
    """Time limit of the first copy, cached for the same reason."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out spaces that cannot be pickled; another process makes a copy to find them."""
        try:
            pickle.dumps(self._spaces)
        except Exception:
            return {**self.__dict__, "_spaces": [], "_limits": []}
        return self.__dict__

    @property
    def identity(self) -> str:
        """The Gymnasium id: the name without a ``module:`` prefix."""
        return self.name if self.factory is not None else self.name.rpartition(":")[2]

    @property
    def spec(self) -> EnvSpec | None:
        """The Gymnasium registration; None for a factory."""
        if self.factory is not None:
            return None
        if self.identity not in gymnasium.registry:
            # A spawned process has not imported the environment's module yet.
            try:
                resolve_name(self.name)
            except EnvironmentNotFoundError:
                if self.registration is None:
                    raise
                gymnasium.registry[self.identity] = self.registration
        return gymnasium.registry[self.identity]

    @property
    def is_plain(self) -> bool:
        """Whether the environment is registered and has default arguments and no wrappers."""
        changed = self.keyword_arguments or self.wrappers or self.ignore_observations
        return self.factory is None and not changed

    @property
    def is_atari(self) -> bool:
        """Whether the environment is one of ale-py's games."""
        return self.factory is None and is_atari_name(self.name)

    @property
    def reward_threshold(self) -> float | None:
        """The mean return at which Gymnasium calls the environment solved."""
        spec = self.spec
        return None if spec is None else spec.reward_threshold

    def spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        """Return observation and action space of one copy; the first call may make a copy.

        Raises:
            EnvironmentNotFoundError, MissingExtraError: as for `make`.
        """
        if not self._spaces:
            close_environment(self.make())
        return self._spaces[0]

    def time_limit(self) -> int | None:
        """Return the number of steps after which an episode is truncated; None if unknown.

        Raises:
            EnvironmentNotFoundError, MissingExtraError: as for `make`.
        """
        self.spaces()
        return self._limits[0]

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one copy.

        Raises:
            EnvironmentNotFoundError: the environment cannot be made.
            MissingExtraError: the environment needs a package that is not installed.
            UnsupportedSpaceError: the observation space or the action space is missing.
            ConfigError: a part of the observations to ignore does not exist.
        """
        arguments = dict(self.keyword_arguments)
        if render_mode is not None:
            arguments["render_mode"] = render_mode
        try:
            environment: gymnasium.Env[Any, Any] = self._make(arguments)
            for wrapper in self.wrappers:
                environment = wrapper(environment)
        except gymnasium.error.DependencyNotInstalled as error:
            raise missing_extra(self.name, error) from error
        except ImportError as error:
            raise missing_extra(self.name, error) from error
        except gymnasium.error.Error as error:
            raise EnvironmentNotFoundError(
                f"the environment {self.name} cannot be made: {error}"
            ) from error
        except (Exception, SystemExit) as error:
            raise EnvironmentNotFoundError(
                f"the environment {self.name} cannot be made: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(environment, gymnasium.Env):
            raise EnvironmentNotFoundError(
                f"{self.name} made {type(environment).__name__}, which is not a gymnasium.Env"
            )
        for kind in ("observation", "action"):
            self._require_space(environment, kind)
        if self.ignore_observations:
            try:
                environment = IgnoreObservations(environment, self.ignore_observations, self.name)
            except ConfigError:
                with contextlib.suppress(Exception):
                    environment.close()
                raise
        if not self._spaces:
            self._spaces.append((environment.observation_space, environment.action_space))
            self._limits.append(known_time_limit(environment))
        return environment

    def _require_space(self, environment: gymnasium.Env[Any, Any], kind: str) -> None:
        """Raise `UnsupportedSpaceError` unless an environment has a space of this kind."""
        try:
            space = getattr(environment, f"{kind}_space", None)
        except Exception as error:
            problem = f"raises {type(error).__name__}: {error}"
        else:
            if isinstance(space, gymnasium.Space):
                return
            module, name = type(space).__module__, type(space).__qualname__
            problem = "is missing or None" if space is None else f"is a {module}.{name}"
        with contextlib.suppress(Exception):
            environment.close()
        raise UnsupportedSpaceError(
            f"the {kind}_space of {self.name} {problem}: write self.{kind}_space = "
            f"gymnasium.spaces.{_EXAMPLES[kind]} in its __init__, before any reset"
        )

    def _make(self, arguments: dict[str, Any]) -> Any:
        if self.factory is not None:
            return self.factory(**arguments)
        if self.is_atari:
            return make_atari(self.identity, self.sticky_actions, arguments)
        with without_deprecations(), remarks_once(self.spec):
            assert self.spec is not None, "there is no factory"
            return gymnasium.make(self.spec, disable_env_checker=True, **arguments)


def known_time_limit(environment: gymnasium.Env[Any, Any]) -> int | None:
    """Return the number of steps after which an episode is truncated; None if unknown."""
    if environment.spec is not None and environment.spec.max_episode_steps is not None:
        return int(environment.spec.max_episode_steps)
    while isinstance(environment, gymnasium.Wrapper):
        if isinstance(environment, gymnasium.wrappers.TimeLimit):
            return int(environment._max_episode_steps)
        environment = environment.env
    return None


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Silence Gymnasium's advice to use a newer version, because the user chose this one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*is out of date.*")
        yield


def find_env_factory(
    choice: EnvironmentChoice,
    factory: Callable[..., gymnasium.Env[Any, Any]] | None = None,
) -> EnvFactory:
    """Find an environment and return its factory.

    Args:
        choice: name, arguments and wrappers of the environment.
        factory: makes the environment, if it cannot be found by its name.

    Raises:
        EnvironmentNotFoundError: there is no such environment; the message has similar names.
        MissingExtraError: the environment's package is not installed.
    """
    if isinstance(factory, gymnasium.Env):
        raise ConfigError(
            f"an environment object was given ({type(factory.unwrapped).__qualname__}), but every "
            "worker and every evaluation needs copies of its own: give its class, a function that "
            "makes a new one at each call, or its Gymnasium id"
        )
    loaded = tuple(import_callable(path, "wrapper") for path in choice.wrappers)
    arguments = parse_keyword_arguments(choice.env_kwargs)
    if factory is None:
        factory = resolve_name(choice.name)
    registration = None
    if factory is None:
        registration = gymnasium.registry[choice.name.rpartition(":")[2]]
    return EnvFactory(
        choice.name,
        factory,
        arguments,
        loaded,
        choice.sticky_actions,
        choice.ignore_observations,
        registration,
    )
