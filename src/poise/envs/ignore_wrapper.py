"""A wrapper that removes parts of the observations."""

from typing import Any

import gymnasium

from poise.ignored_parts import leave_out, reduced_space

__all__ = ["IgnoreObservations"]


class IgnoreObservations(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment without some parts of its observations.

    Results that do not follow Gymnasium's API are passed on unchanged; `CheckedEnv` reports them.

    Args:
        environment: an environment with Dict or Tuple observations.
        names: names of the parts to remove.
        name: name of the environment, for error messages.

    Raises:
        ConfigError: a part does not exist.
    """

    def __init__(
        self, environment: gymnasium.Env[Any, Any], names: tuple[str, ...], name: str
    ) -> None:
        super().__init__(environment)
        self._names = names
        self.observation_space = reduced_space(environment.observation_space, names, name)

    def reset(self, **arguments: Any) -> Any:
        """Reset the environment, and remove the parts."""
        return self._without(self.env.reset(**arguments))

    def step(self, action: Any) -> Any:
        """Step the environment, and remove the parts."""
        return self._without(self.env.step(action))

    def _without(self, result: Any) -> Any:
        if not isinstance(result, tuple) or not result:
            return result
        return (leave_out(result[0], self._names), *result[1:])
