"""Equinox modules as networks."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from poise.agent.network import FeedForwardNetwork
from poise.errors import ConfigError

__all__ = ["EquinoxNetwork"]


class EquinoxNetwork(FeedForwardNetwork):
    """A feed-forward Equinox module ``observation -> (distribution parameters, value)``.

    Its parameters are the module with only its trainable arrays.

    Args:
        make: makes the module with randomness from a generator; with None, the module with a
            `jax.ShapeDtypeStruct` in place of each array (as `equinox.filter_eval_shape` does).

    Raises:
        ConfigError: the module has arrays that are not trained. They would be lost, because a file
            holds only the parameters.
    """

    def __init__(self, make: Callable[[np.random.Generator | None], eqx.Module]) -> None:
        self._make = make
        self._shapes, self._rest = eqx.partition(make(None), _is_trained)
        for path, leaf in jax.tree_util.tree_leaves_with_path(self._rest):
            if hasattr(leaf, "dtype"):
                name = jax.tree_util.keystr(path)
                raise ConfigError(
                    f"the network's array {name} has dtype {leaf.dtype}, which is not trained and "
                    "would not be saved: make it a static field"
                )

    def init(self, generator: np.random.Generator) -> Any:
        """Make a new module and return its trainable arrays."""
        return eqx.filter(self._make(generator), _is_trained)

    def shapes(self) -> Any:
        """Return the shapes and dtypes of the module's trainable arrays."""
        return self._shapes

    def module(self, parameters: Any) -> Any:
        """Return the module with these parameters."""
        return eqx.combine(parameters, self._rest)

    def evaluate(self, parameters: Any, observation: Any) -> tuple[Any, Any]:
        """Call the module."""
        dist_params, value = self.module(parameters)(observation)
        return dist_params, value

    def describe(self) -> str:
        """Return the name of the module's class."""
        return type(self._rest).__name__


def _is_trained(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact))
