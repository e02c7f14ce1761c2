"""The network for observations without images: separate multi-layer perceptrons (MLPs)."""

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from gymnasium import spaces
from jaxtyping import Float

from poise.agent.activations import ACTIVATIONS, Activation, ActivationName
from poise.agent.categories import lookup_sizes
from poise.agent.encoders import encode
from poise.agent.equinox_network import EquinoxNetwork
from poise.agent.layer_input import LayerInput, input_size, layer_input, make_table
from poise.agent.layers import ArrayLike, Dense, Outputs, constants, orthogonal
from poise.maths.namespace import array_namespace, row_product

__all__ = ["ActorCritic", "MlpNetwork", "actor_critic", "describe_table"]


class ActorCritic(eqx.Module):
    """Separate trunks of hidden layers for policy and value: the tutorial's network.

    Without a trunk for the value, the first one computes action values, the highest of which is the
    value. If both share their hidden layers, these belong to the policy's trunk, and the value's is
    only its last layer.

    It runs unchanged on JAX arrays and on NumPy arrays, with any leading axes.
    """

    policy: tuple[Dense, ...]
    value: tuple[Dense, ...]
    free: Float[ArrayLike, " free"]
    observation_space: spaces.Space[Any] = eqx.field(static=True)
    activation: ActivationName = eqx.field(static=True)
    table: Float[ArrayLike, "categories units"] | None = None
    is_shared: bool = eqx.field(static=True, default=False)
    shows_features: bool = eqx.field(static=True, default=False)

    def __call__(self, observation: Any) -> tuple[Any, Any]:
        """Return distribution parameters ``[..., P]`` and value ``[...]``.

        If features are shown, those of the last hidden layer are among the parameters, after what
        the policy's last layer computes.
        """
        inputs = layer_input(self.observation_space, observation, self.table)
        activate = ACTIVATIONS[self.activation]
        outputs, features = _trunk(self.policy, inputs, activate)
        if self.shows_features:
            outputs = _joined(outputs, features)
        dist_params = _with_free(outputs, self.free)
        if not self.value:
            return dist_params, dist_params.max(-1)
        if self.is_shared and features is not None:
            return dist_params, self.value[0](features)[..., 0]
        return dist_params, _trunk(self.value, inputs, activate)[0][..., 0]


class MlpNetwork(EquinoxNetwork):
    """`ActorCritic` as a network, which can also act with NumPy.

    Args:
        observation_space: the space of its observations.
        outputs: what it outputs.
        hidden_sizes: units of each hidden layer.
        embedding_units: columns of the embedding table; 0 for no table.
        activation: name of the hidden layers' activation function.
        is_shared: whether policy and value share their hidden layers.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        outputs: Outputs,
        hidden_sizes: tuple[int, ...],
        embedding_units: int = 0,
        activation: ActivationName = "relu",
        is_shared: bool = False,
    ) -> None:
        self._space = observation_space
        self._outputs = outputs
        self._hidden_sizes = hidden_sizes
        self._embedding_units = embedding_units
        self._activation = activation
        self._is_shared = is_shared and bool(hidden_sizes)
        how = embedding_units, activation, self._is_shared

        def make(generator: np.random.Generator | None) -> ActorCritic:
            return actor_critic(observation_space, outputs, hidden_sizes, generator, *how)

        super().__init__(make)

    @property
    def multiplications(self) -> int:
        """Multiplications for policy and value of one observation; lookups need none."""
        lookups = lookup_sizes(self._space)
        first = input_size(self._space, self._embedding_units)
        if not self._embedding_units:
            first -= sum(lookups)
        sizes = (first, *self._hidden_sizes)
        hidden = sum((inputs + 1) * units for inputs, units in itertools.pairwise(sizes))
        trunks = hidden + (sizes[-1] + 1) * self._outputs.computed
        if not self._outputs.critic:
            return trunks
        return trunks + (0 if self._is_shared else hidden) + sizes[-1] + 1

    def numpy_policy(self, parameters: Any) -> Callable[[Any], Any]:
        """See `RunsOnNumpy.numpy_policy`.

        The arrays are taken out of their modules, because for a small network Equinox's attribute
        access takes longer than the arithmetic.
        """
        network: ActorCritic = self.module(parameters)
        space, free, table = self._space, network.free, network.table
        *hidden, last = [(layer.weight, layer.bias) for layer in network.policy]
        activate, shows_features = ACTIVATIONS[self._activation], bool(self._outputs.features)
        if lookup_sizes(space):
            layers = network.policy

            def by_lookup(observation: Any) -> Any:
                outputs, features = _trunk(layers, layer_input(space, observation, table), activate)
                return _with_free(_joined(outputs, features) if shows_features else outputs, free)

            return by_lookup

        def policy(observation: Any) -> Any:
            x = encode(space, observation)
            for weight, bias in hidden:
                x = activate(row_product(x, weight) + bias)
            outputs = row_product(x, last[0]) + last[1]
            return _with_free(_joined(outputs, x) if shows_features else outputs, free)

        return policy

    def describe(self) -> str:
        """Describe the hidden layers and the embedding table, if there is one."""
        sizes = " + ".join(map(str, self._hidden_sizes)) or "no"
        text = f"an MLP with {sizes} {self._activation} units for the "
        if not self._outputs.critic:
            text += "values of the actions"
        else:
            text += "policy and " + ("the value" if self._is_shared else "one for the value")
        return text + describe_table(self._space, self._embedding_units)


def describe_table(space: spaces.Space[Any], embedding_units: int) -> str:
    """Describe the embedding table, to be added to a network's description; empty without one."""
    if not embedding_units:
        return ""
    return f", after a table of {sum(lookup_sizes(space)):,} categories x {embedding_units} numbers"


def _with_free(parameters: Any, free: Any) -> Any:
    """Append the free parameters to those that the network computed."""
    if not free.shape[0]:
        return parameters
    xp = array_namespace(parameters)
    repeated = xp.broadcast_to(free, (*parameters.shape[:-1], free.shape[0]))
    return xp.concatenate([parameters, repeated], axis=-1)


def _joined(outputs: Any, features: Any) -> Any:
    """Append the features of the last hidden layer to the outputs."""
    return array_namespace(outputs).concatenate([outputs, features], axis=-1)


def _trunk(
    layers: tuple[Dense, ...], inputs: LayerInput, activate: Activation
) -> tuple[Any, Any | None]:
    """Return the last layer's outputs and its inputs, which are None if there is only one layer."""
    x, features = inputs.product(layers[0].weight) + layers[0].bias, None
    for layer in layers[1:]:
        features = activate(x)
        x = layer(features)
    return x, features


def actor_critic(
    observation_space: spaces.Space[Any],
    outputs: Outputs,
    hidden_sizes: tuple[int, ...],
    generator: np.random.Generator | None,
    embedding_units: int = 0,
    activation: ActivationName = "relu",
    is_shared: bool = False,
) -> ActorCritic:
    """Make an `ActorCritic` with orthogonal weights (Saxe et al. 2014, arXiv 1312.6120).

    Gains are sqrt(2) for hidden layers, whatever their activation, 0.01 for the policy's output, so
    that the initial policy is nearly uniform, and 1 for the value's output (Engstrom et al. 2020,
    arXiv 2005.12729; the same as in Stable-Baselines3's ``ActorCriticPolicy``). Weights are made
    with NumPy, because compiling an initialiser would take longer than running it.

    Args:
        observation_space: the space of its observations.
        outputs: what it outputs.
        hidden_sizes: units of each hidden layer.
        generator: source of the random weights; with None, only shapes are made.
        embedding_units: columns of the embedding table; 0 for no table.
        activation: name of the hidden layers' activation function.
        is_shared: whether policy and value share their hidden layers, of which there are some.
    """
    sizes = (input_size(observation_space, embedding_units), *hidden_sizes)

    def trunk(last: int, last_gain: float) -> tuple[Dense, ...]:
        hidden = [
            orthogonal(generator, inputs, units, np.sqrt(2.0))
            for inputs, units in itertools.pairwise(sizes)
        ]
        return (*hidden, orthogonal(generator, sizes[-1], last, last_gain))

    def value() -> tuple[Dense, ...]:
        return (orthogonal(generator, sizes[-1], 1, 1.0),) if is_shared else trunk(1, 1.0)

    return ActorCritic(
        policy=trunk(outputs.computed, 0.01),
        value=value() if outputs.critic else (),
        free=constants(outputs.free, outputs.first_free, generator),
        table=make_table(observation_space, embedding_units, generator),
        observation_space=observation_space,
        activation=activation,
        is_shared=is_shared,
        shows_features=bool(outputs.features),
    )
