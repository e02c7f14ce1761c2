"""A wrapper that leaves parts of the observations out, before anything else sees them."""

from typing import Any

import gymnasium

from poise.ignored_parts import leave_out, reduced_space

__all__ = ["IgnoreObservations"]


class IgnoreObservations(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment without some parts of its observations.

    What is not as Gymnasium has it is passed on as it is: whoever steps the environment says so.

    Args:
        environment: whose observations are Dict or Tuple.
        names: of the parts.
        name: of the environment, for error messages.

    Raises:
        ConfigError: there is no such part.
    """

    def __init__(
        self, environment: gymnasium.Env[Any, Any], names: tuple[str, ...], name: str
    ) -> None:
        super().__init__(environment)
        self._names = names
        self.observation_space = reduced_space(environment.observation_space, names, name)

    def reset(self, **arguments: Any) -> Any:
        """Reset the environment."""
        return self._without(self.env.reset(**arguments))

    def step(self, action: Any) -> Any:
        """Step the environment."""
        return self._without(self.env.step(action))

    def _without(self, result: Any) -> Any:
        if not isinstance(result, tuple) or not result:
            return result
        return (leave_out(result[0], self._names), *result[1:])
