"""What poise asks of an actor-critic network, whatever framework it is written in.

A network holds no arrays: `Network.init` makes its parameters, a pytree of floating-point arrays,
and everything else is a pure function of them. `FeedForwardNetwork` and `RecurrentNetwork` are the
bases to write an adapter on.
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
"""Adam's, unless a network knows better."""


class NetworkOutput(NamedTuple):
    """What a network says of an observation."""

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
        """The step size that it learns well with (Adam), where none is set."""

    def init(self, generator: np.random.Generator) -> Any:
        """First parameters, a pytree of floating-point arrays.

        Args:
            generator: where their randomness comes from.
        """

    def shapes(self) -> Any:
        """What `init` makes, without allocating it: leaves have ``shape`` and ``dtype``."""

    def initial_state(self) -> Any:
        """The recurrent state at the start of an episode, of one copy; ``()`` without one."""

    def apply(self, parameters: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """One observation of one copy.

        Args:
            parameters: as `init` makes them.
            observation: scaled (`Agent.observe`).
            state: the recurrent state before it.
            first: bool scalar, whether it begins an episode, so that the state is forgotten.
        """

    def unroll(self, parameters: Any, observations: Any, state: Any, first: Any) -> NetworkOutput:
        """One copy's observations along time: leading axes ``[T]``, but for the states."""

    def describe(self) -> str:
        """Its layers, for people."""


NetworkFactory = Callable[[spaces.Space[Any], int, int], Network]
"""(observation space, distribution parameters that depend on the observation, those that do not)
-> network. It travels to worker processes, which make their networks themselves."""


@runtime_checkable
class RunsOnNumpy(Protocol):
    """A network that NumPy can act with, which is faster than a call into XLA if it is small."""

    @property
    def multiplications(self) -> int:
        """For one observation."""

    def numpy_policy(self, parameters: Any) -> Callable[[Any], Any]:
        """Observations ``[N, ...]`` to distribution parameters ``[N, P]``; the value is left out.

        Args:
            parameters: as `Network.init` makes them, on NumPy.
        """


class FeedForwardNetwork(abc.ABC):
    """A network without memory: time is one more batch axis."""

    usual_learning_rate: float = LEARNING_RATE

    @abc.abstractmethod
    def init(self, generator: np.random.Generator) -> Any:
        """As `Network.init`."""

    @abc.abstractmethod
    def shapes(self) -> Any:
        """As `Network.shapes`; for what JAX makes, `jax.eval_shape` tells."""

    @abc.abstractmethod
    def evaluate(self, parameters: Any, observation: Any) -> tuple[Any, Any]:
        """Distribution parameters ``[P]`` and value ``[]`` of one observation."""

    @abc.abstractmethod
    def describe(self) -> str:
        """As `Network.describe`."""

    def initial_state(self) -> tuple[()]:
        """There is no state."""
        return ()

    def apply(self, parameters: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """As `Network.apply`; the state comes back as it was."""
        del first
        return NetworkOutput(*self.evaluate(parameters, observation), state)

    def unroll(self, parameters: Any, observations: Any, state: Any, first: Any) -> NetworkOutput:
        """As `Network.unroll`, all observations at once."""
        del first
        outputs = jax.vmap(lambda one: self.evaluate(parameters, one))(observations)
        return NetworkOutput(*outputs, state)


class RecurrentNetwork(abc.ABC):
    """A network with memory, in three parts, of which only the core runs step by step.

    So convolutions, which belong into the torso, are never inside the scan over time.
    """

    usual_learning_rate: float = LEARNING_RATE

    @abc.abstractmethod
    def init(self, generator: np.random.Generator) -> Any:
        """As `Network.init`."""

    @abc.abstractmethod
    def shapes(self) -> Any:
        """As `Network.shapes`; for what JAX makes, `jax.eval_shape` tells."""

    @abc.abstractmethod
    def initial_state(self) -> Any:
        """As `Network.initial_state`."""

    @abc.abstractmethod
    def torso(self, parameters: Any, observation: Any) -> Any:
        """One observation to features, without memory."""

    @abc.abstractmethod
    def core(self, parameters: Any, features: Any, state: Any) -> tuple[Any, Any]:
        """One step: features and the state before it to features and the state after it."""

    @abc.abstractmethod
    def heads(self, parameters: Any, features: Any) -> tuple[Any, Any]:
        """The core's features to distribution parameters ``[P]`` and value ``[]``."""

    @abc.abstractmethod
    def describe(self) -> str:
        """As `Network.describe`."""

    def apply(self, parameters: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """As `Network.apply`."""
        features = self.torso(parameters, observation)
        features, state = self.core(parameters, features, self._remembered(state, first))
        return NetworkOutput(*self.heads(parameters, features), state)

    def unroll(self, parameters: Any, observations: Any, state: Any, first: Any) -> NetworkOutput:
        """As `Network.unroll`: torso and heads all at once, the core in turn."""

        def step(state: Any, now: Any) -> tuple[Any, Any]:
            features, begins = now
            features, state = self.core(parameters, features, self._remembered(state, begins))
            return state, features

        features = jax.vmap(lambda one: self.torso(parameters, one))(observations)
        state, features = jax.lax.scan(step, state, (features, first))
        outputs = jax.vmap(lambda one: self.heads(parameters, one))(features)
        return NetworkOutput(*outputs, state)

    def _remembered(self, state: Any, first: Any) -> Any:
        """The state, or where an episode begins that of its start."""

        def choose(start: Any, before: Any) -> Any:
            return jax.numpy.where(first, start, before)

        return jax.tree.map(choose, self.initial_state(), state)
