"""Networks: ``(observation, state, first) -> (distribution parameters, value, state)``.

Equinox modules over one observation; callers `vmap` them over time and copies. ``state`` is the
recurrent state, ``()`` for a feed-forward network; ``first`` tells a recurrent one to begin anew.
"""

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float

from poise.agent.categories import lookup_sizes
from poise.agent.encoders import encode
from poise.agent.seeing import Seen, input_size, make_table, see
from poise.maths.namespace import array_namespace

__all__ = [
    "ActorCritic",
    "Dense",
    "actor_critic",
    "numpy_policy",
    "orthogonal",
    "parameter_count",
]

ArrayLike = Array | np.ndarray


class Dense(eqx.Module):
    """An affine layer ``x @ weight + bias``, with the weight as ``[inputs, outputs]``."""

    weight: Float[ArrayLike, "inputs outputs"]
    bias: Float[ArrayLike, " outputs"]

    def __call__(self, x: Any) -> Any:
        """``[..., inputs]`` to ``[..., outputs]``."""
        return x @ self.weight + self.bias


class ActorCritic(eqx.Module):
    """Separate trunks of ReLU layers for policy and value: the tutorial's network.

    It runs on JAX arrays, and as it stands on NumPy ones with any leading axes.
    """

    runs_on_numpy: ClassVar[bool] = True

    policy: tuple[Dense, ...]
    value: tuple[Dense, ...]
    free: Float[ArrayLike, " free"]
    observation_space: spaces.Space[Any] = eqx.field(static=True)
    table: Float[ArrayLike, "categories units"] | None = None

    def __call__(self, observation: Any, state: Any, first: Any) -> tuple[Any, Any, Any]:
        """Return distribution parameters ``[..., P]``, value ``[...]`` and the state as it was."""
        del first
        seen = see(self.observation_space, observation, self.table)
        parameters = _with_free(_trunk(self.policy, seen), self.free)
        return parameters, _trunk(self.value, seen)[..., 0], state

    def initial_state(self) -> tuple[()]:
        """A feed-forward network has no state."""
        return ()


def numpy_policy(network: ActorCritic) -> Callable[[Any], Any]:
    """What acting on NumPy needs of a network: observations ``[..., ]`` to parameters ``[..., P]``.

    The value is left out, and the arrays are taken out of their modules: for a small network,
    Equinox's access to them takes longer than the arithmetic.
    """
    space, free, table = network.observation_space, network.free, network.table
    *hidden, last = [(layer.weight, layer.bias) for layer in network.policy]
    zero = np.float32(0.0)
    if lookup_sizes(space):
        layers = network.policy
        return lambda observation: _with_free(_trunk(layers, see(space, observation, table)), free)

    def policy(observation: Any) -> Any:
        x = encode(space, observation)
        for weight, bias in hidden:
            x = np.maximum(x @ weight + bias, zero)
        return _with_free(x @ last[0] + last[1], free)

    return policy


def _with_free(parameters: Any, free: Any) -> Any:
    """Parameters that the network computed, and behind them those that depend on nothing."""
    if not free.shape[0]:
        return parameters
    xp = array_namespace(parameters)
    everywhere = xp.broadcast_to(free, (*parameters.shape[:-1], free.shape[0]))
    return xp.concatenate([parameters, everywhere], axis=-1)


def _trunk(layers: tuple[Dense, ...], seen: Seen) -> Any:
    x = seen.product(layers[0].weight) + layers[0].bias
    xp = array_namespace(x)
    for layer in layers[1:]:
        x = layer(xp.maximum(x, np.float32(0.0)))
    return x


def actor_critic(
    observation_space: spaces.Space[Any],
    outputs: int,
    free: int,
    hidden_sizes: tuple[int, ...],
    generator: np.random.Generator | None,
    embedding_units: int = 0,
) -> ActorCritic:
    """Make an `ActorCritic` with orthogonal weights (Saxe et al. 2014, arXiv 1312.6120).

    Gains are sqrt(2) for ReLU layers, 0.01 for the policy's output, so that the first policy is
    nearly uniform, and 1 for the value's (Engstrom et al. 2020, arXiv 2005.12729). Made with NumPy,
    since compiling an initialiser would take longer than running it.

    Args:
        observation_space: what the network sees.
        outputs: distribution parameters that depend on the observation.
        free: distribution parameters that do not.
        hidden_sizes: units of each hidden layer.
        generator: source of the weights; None leaves them 0.
        embedding_units: columns of the table of looked-up categories; 0 for none.
    """
    sizes = (input_size(observation_space, embedding_units), *hidden_sizes)

    def trunk(last: int, last_gain: float) -> tuple[Dense, ...]:
        hidden = [
            orthogonal(generator, inputs, units, np.sqrt(2.0))
            for inputs, units in itertools.pairwise(sizes)
        ]
        return (*hidden, orthogonal(generator, sizes[-1], last, last_gain))

    return ActorCritic(
        policy=trunk(outputs, 0.01),
        value=trunk(1, 1.0),
        free=np.zeros(free, np.float32),
        table=make_table(observation_space, embedding_units, generator),
        observation_space=observation_space,
    )


def parameter_count(
    observation_space: spaces.Space[Any],
    outputs: int,
    free: int,
    hidden_sizes: tuple[int, ...],
    embedding_units: int = 0,
) -> int:
    """Number of parameters of an `actor_critic`, without making it."""
    sizes = (input_size(observation_space, embedding_units), *hidden_sizes)
    hidden = sum((inputs + 1) * units for inputs, units in itertools.pairwise(sizes))
    table = sum(lookup_sizes(observation_space)) * embedding_units
    return 2 * hidden + (sizes[-1] + 1) * (outputs + 1) + free + table


def orthogonal(
    generator: np.random.Generator | None, rows: int, columns: int, gain: float
) -> Dense:
    """A layer whose weight has orthonormal rows or columns, times ``gain``, and no bias."""
    if generator is None:
        return Dense(np.zeros((rows, columns), np.float32), np.zeros(columns, np.float32))
    tall = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diagonal(r))
    weight = (q if rows >= columns else q.T) * gain
    return Dense(weight.astype(np.float32), np.zeros(columns, np.float32))
