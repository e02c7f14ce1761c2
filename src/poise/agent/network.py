"""The interface of actor-critic networks, independent of the framework they are written in.

A network holds no arrays: `Network.init` makes its parameters, a pytree of floating-point arrays,
and everything else is a pure function of them. `FeedForwardNetwork` and `RecurrentNetwork` are base
classes for adapters.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from gymnasium import spaces

__all__ = [
    "FeedForwardNetwork",
    "Network",
    "NetworkFactory",
    "NetworkOutput",
    "RecurrentNetwork",
    "RunsOnNumpy",
]

LEARNING_RATE = 3e-3
"""Adam's default learning rate, unless the network sets its own."""


class NetworkOutput(NamedTuple):
    """A network's output for an observation."""

    dist_params: Any
    """``[..., P]`` float32: the parameters of the distribution over actions."""
    value: Any
    """``[...]`` float32: the estimated discounted return."""
    state: Any
    """The recurrent state after the observation; ``()`` for a feed-forward network."""


@runtime_checkable
class Network(Protocol):
    """An actor-critic network as pure functions of its parameters."""

    @property
    def usual_learning_rate(self) -> float:
        """The learning rate (Adam) to use if none is set."""

    def init(self, generator: np.random.Generator) -> Any:
        """Make initial parameters, a pytree of floating-point arrays.

        Args:
            generator: source of randomness.
        """

    def shapes(self) -> Any:
        """Return the shapes of `init`'s result: a pytree of leaves with ``shape`` and ``dtype``."""

    def initial_state(self) -> Any:
        """Return one copy's recurrent state at the start of an episode; ``()`` if it has none."""

    def apply(self, parameters: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """Apply the network to one observation of one copy.

        Args:
            parameters: parameters made by `init`.
            observation: the scaled observation (`Agent.observe`).
            state: the recurrent state before the observation.
            first: bool scalar, whether the observation begins an episode: the state is then reset.
        """

    def unroll(self, parameters: Any, observations: Any, state: Any, first: Any) -> NetworkOutput:
        """Apply the network to one copy's observations over time.

        All arguments and results have leading axis ``[T]``, except parameters and states.
        """

    def describe(self) -> str:
        """Describe the layers in words."""


NetworkFactory = Callable[[spaces.Space[Any], int, int], Network]
"""(observation space, number of distribution parameters that depend on the observation, number of
those that do not) -> network. It is sent to worker processes, which call it to make their own
networks."""


@runtime_checkable
class RunsOnNumpy(Protocol):
    """A network that can act with NumPy, which for a small one is faster than a call into XLA."""

    @property
    def multiplications(self) -> int:
        """Number of multiplications for one observation."""

    def numpy_policy(self, parameters: Any) -> Callable[[Any], Any]:
        """Return a function from observations ``[N, ...]`` to distribution parameters ``[N, P]``.

        The value is not computed.

        Args:
            parameters: parameters made by `Network.init`, as NumPy arrays.
        """


class _Adapter(abc.ABC):
    """What all adapters have in common."""

    usual_learning_rate: float = LEARNING_RATE

    @abc.abstractmethod
    def init(self, generator: np.random.Generator) -> Any:
        """See `Network.init`."""

    @abc.abstractmethod
    def shapes(self) -> Any:
        """See `Network.shapes`; if `init` is written in JAX, use `jax.eval_shape`."""

    @abc.abstractmethod
    def describe(self) -> str:
        """See `Network.describe`."""


class FeedForwardNetwork(_Adapter):
    """Base class of networks without memory, for which time is just another batch axis."""

    @abc.abstractmethod
    def evaluate(self, parameters: Any, observation: Any) -> tuple[Any, Any]:
        """Return distribution parameters ``[P]`` and value ``[]`` for one observation."""

    def initial_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    def apply(self, parameters: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """See `Network.apply`; the state is returned unchanged."""
        del first
        return NetworkOutput(*self.evaluate(parameters, observation), state)

    def unroll(self, parameters: Any, observations: Any, state: Any, first: Any) -> NetworkOutput:
        """See `Network.unroll`; all observations are computed at once."""
        del first
        outputs = jax.vmap(lambda one: self.evaluate(parameters, one))(observations)
        return NetworkOutput(*outputs, state)


class RecurrentNetwork(_Adapter):
    """Base class of networks with memory, in three parts: torso, core and heads.

    Only the core runs step by step. Convolutions belong in the torso, outside the scan over time.
    """

    @abc.abstractmethod
    def initial_state(self) -> Any:
        """See `Network.initial_state`."""

    @abc.abstractmethod
    def torso(self, parameters: Any, observation: Any) -> Any:
        """Compute features from one observation, without memory."""

    @abc.abstractmethod
    def core(self, parameters: Any, features: Any, state: Any) -> tuple[Any, Any]:
        """Do one step: map features and the previous state to features and the new state."""

    @abc.abstractmethod
    def heads(self, parameters: Any, features: Any) -> tuple[Any, Any]:
        """Compute distribution parameters ``[P]`` and value ``[]`` from the core's features."""

    def apply(self, parameters: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """See `Network.apply`."""
        features = self.torso(parameters, observation)
        features, state = self.core(parameters, features, self._reset_if_first(state, first))
        return NetworkOutput(*self.heads(parameters, features), state)

    def unroll(self, parameters: Any, observations: Any, state: Any, first: Any) -> NetworkOutput:
        """See `Network.unroll`; torso and heads run on all steps at once, the core step by step."""

        def step(state: Any, now: Any) -> tuple[Any, Any]:
            features, begins = now
            features, state = self.core(parameters, features, self._reset_if_first(state, begins))
            return state, features

        features = jax.vmap(lambda one: self.torso(parameters, one))(observations)
        state, features = jax.lax.scan(step, state, (features, first))
        outputs = jax.vmap(lambda one: self.heads(parameters, one))(features)
        return NetworkOutput(*outputs, state)

    def _reset_if_first(self, state: Any, first: Any) -> Any:
        """Return the state, replaced by the initial state where an episode begins."""

        def choose(start: Any, before: Any) -> Any:
            return jax.numpy.where(first, start, before)

        return jax.tree.map(choose, self.initial_state(), state)
