"""The network for images: the small convolutional one of the A3C paper.

Mnih et al. 2016 (arXiv 1602.01783), section 5.1, after Mnih et al. 2013 (arXiv 1312.5602): 16
filters of 8x8 with stride 4, 32 of 4x4 with stride 2, 256 units, all ReLU, shared by policy and
value. Images smaller than 36 pixels get two layers of 4x4 filters with stride 2 instead. Parts of
an observation that are not images are concatenated to the input of the hidden layer of 256 units.
Another activation can be set instead of ReLU.

Unlike in the paper, policy and value each have two tanh layers of 64 units of their own after it
(those of Schulman et al. 2017, arXiv 1707.06347, section 6.1). If the value were computed from the
shared units directly, large values would make all of these units grow. The policy's logits, also
computed from them, would grow too, and the policy would become deterministic before it has learned
anything.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Float

from poise.agent.activations import ACTIVATIONS, Activation, ActivationName
from poise.agent.categories import lookup_sizes
from poise.agent.encoders import encode
from poise.agent.equinox_network import EquinoxNetwork
from poise.agent.image_axes import ImageLayout, image_layout
from poise.agent.layer_input import input_size, layer_input, make_table
from poise.agent.layers import ArrayLike, Dense, Outputs, constants, orthogonal
from poise.agent.networks import describe_table
from poise.agent.normalizer import scale_by_bounds
from poise.space_parts import part_at, parts

__all__ = ["Convolution", "ImageActorCritic", "ImageNetwork", "image_actor_critic"]

LARGE_SIDE = 36
LARGE_FILTERS = ((16, 4), (32, 2))
SMALL_FILTERS = ((16, 2), (32, 2))
"""(number of filters, stride) of each layer; filters are twice as wide as their stride."""
_ACTIVATIONS: dict[ActivationName, Activation] = {**ACTIVATIONS, "relu": jax.nn.relu}
"""With the ReLU whose slope at 0 is 0: parts of many images are black."""
HIDDEN_UNITS = 256
HEAD_SIZES = (64, 64)
IMAGE_LEARNING_RATE = 1e-3
"""Adam changes every weight by about this much per update, and a unit of the convolutional network
sums hundreds of inputs that are never negative. Measured on two stacked images of 36 x 36: with
3e-4, 1e-3 and 2e-3 the network learned which way a square drifts; with 3e-3 the policy collapsed
once during training."""


class Convolution(eqx.Module):
    """A convolution without padding whose filters are twice as wide as their stride.

    The image is cut into tiles of the stride's size, and every filter covers 2 x 2 of them. The
    weight is ``[2, 2, stride, stride, in, out]``, with all axes but the last flattened.
    """

    weight: Float[ArrayLike, "inputs out"]
    bias: Float[ArrayLike, " out"]
    stride: int = eqx.field(static=True)

    def __call__(self, image: Any) -> Any:
        """Map ``[height, width, in]`` to ``[height / stride - 1, width / stride - 1, out]``."""
        stride = self.stride
        rows, columns = (side // stride for side in image.shape[:2])
        image = image[: rows * stride, : columns * stride]
        tiles = image.reshape(rows, stride, columns, stride, -1).transpose(0, 2, 1, 3, 4)
        tiles = tiles.reshape(rows, columns, -1)
        return _over_tiles(tiles, jnp.asarray(self.weight)) + self.bias[None, None, :]


_CORNERS = tuple(itertools.product((0, 1), (0, 1)))
"""Positions of a filter's tiles, in the order of its weight."""


@jax.custom_vjp
def _over_tiles(tiles: Any, weight: Any) -> Any:
    """Apply filters of 2 x 2 tiles: ``[r, c, k]`` and ``[4 k, out]`` to ``[r - 1, c - 1, out]``.

    Every tile is multiplied by all four parts of the filters in one matrix product, and then those
    products are added that belong to the same position. The gradient is two matrix products. On
    the CPU this is several times faster than XLA's own convolution, and than a matrix product over
    patches of 2 x 2 tiles, which XLA gathers element by element.
    """
    rows, columns = tiles.shape[:2]
    products = (tiles @ _side_by_side(weight)).reshape(rows, columns, 4, -1)
    parts = (
        products[y : rows - 1 + y, x : columns - 1 + x, at] for at, (y, x) in enumerate(_CORNERS)
    )
    return sum(parts)


def _over_tiles_forward(tiles: Any, weight: Any) -> tuple[Any, tuple[Any, Any]]:
    return _over_tiles(tiles, weight), (tiles, weight)


def _over_tiles_backward(saved: tuple[Any, Any], change: Any) -> tuple[Any, Any]:
    tiles, weight = saved
    rows, columns, inputs = tiles.shape
    spread = [jnp.pad(change, ((y, 1 - y), (x, 1 - x), (0, 0))) for y, x in _CORNERS]
    # The barrier keeps XLA from computing these again for each element of both products.
    barrier: Callable[[Any], Any] = jax.lax.optimization_barrier
    changes = barrier(jnp.concatenate(spread, axis=-1))
    by_weight = tiles.reshape(-1, inputs).T @ changes.reshape(rows * columns, -1)
    by_weight = by_weight.reshape(inputs, 4, -1).transpose(1, 0, 2).reshape(weight.shape)
    return changes @ _side_by_side(weight).T, by_weight


_over_tiles.defvjp(_over_tiles_forward, _over_tiles_backward)


def _side_by_side(weight: Any) -> Any:
    """Rearrange ``[4 k, out]`` to ``[k, 4 out]``."""
    inputs, filters = weight.shape[0] // 4, weight.shape[1]
    return weight.reshape(4, inputs, filters).transpose(1, 0, 2).reshape(inputs, 4 * filters)


class ImageActorCritic(eqx.Module):
    """Convolutions for every image, one shared hidden layer, then layers for policy and value.

    Without layers for the value, the others compute action values, the highest of which is the
    value.
    """

    convolutions: tuple[tuple[Convolution, ...], ...]
    hidden: Dense
    policy: tuple[Dense, ...]
    value: tuple[Dense, ...]
    free: Float[ArrayLike, " free"]
    observation_space: spaces.Space[Any] = eqx.field(static=True)
    image_axes: str = eqx.field(static=True)
    activation: ActivationName = eqx.field(static=True)
    table: Float[ArrayLike, "categories units"] | None = None
    shows_features: bool = eqx.field(static=True, default=False)

    def __call__(self, observation: Any) -> tuple[Any, Any]:
        """Return distribution parameters ``[P]`` and value ``[]``."""
        features, images, row = [], 0, 0
        activate = _ACTIVATIONS[self.activation]
        for path, part in parts(self.observation_space):
            value = part_at(observation, path)
            layout = image_layout(part, self.image_axes)
            if layout is not None:
                picture = _channels_last(scale_by_bounds(part, value), layout)
                features.append(_convolve(self.convolutions[images], picture, activate))
                images += 1
            elif self.table is not None and (rows := sum(lookup_sizes(part))):
                features.append(layer_input(part, value, self.table[row : row + rows]).numbers)
                row += rows
            else:
                features.append(encode(part, value))
        hidden = activate(self.hidden(jnp.concatenate(features)))
        outputs, shown = _head(self.policy, hidden)
        joined = [outputs, shown] if self.shows_features else [outputs]
        dist_params = jnp.concatenate([*joined, jnp.asarray(self.free)])
        if not self.value:
            return dist_params, dist_params.max(-1)
        return dist_params, _head(self.value, hidden)[0][0]


class ImageNetwork(EquinoxNetwork):
    """`ImageActorCritic` as a network.

    Args:
        observation_space: the space of its observations; at least one part must be an image.
        outputs: what it outputs.
        embedding_units: columns of the embedding table; 0 for no table.
        image_axes: which parts are images, and what each of their axes is.
        activation: name of the activation function of convolutions and shared layer.
    """

    usual_learning_rate = IMAGE_LEARNING_RATE

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        outputs: Outputs,
        embedding_units: int = 0,
        image_axes: str = "auto",
        activation: ActivationName = "relu",
    ) -> None:
        self._space = observation_space
        self._embedding_units = embedding_units
        how = embedding_units, image_axes, activation

        def make(generator: np.random.Generator | None) -> ImageActorCritic:
            return image_actor_critic(observation_space, outputs, generator, *how)

        super().__init__(make)

    def describe(self) -> str:
        """Describe the network and its embedding table, if it has one."""
        return "the convolutional network" + describe_table(self._space, self._embedding_units)


def _channels_last(image: Any, layout: ImageLayout) -> Any:
    """Rearrange an image to [height, width, channels]; colours and stacked frames are merged."""
    image = jnp.transpose(image, layout.order)
    return image.reshape(layout.height, layout.width, layout.channels)


def _convolve(layers: tuple[Convolution, ...], x: Any, activate: Activation) -> Any:
    for layer in layers:
        x = activate(layer(x))
    return x.reshape(-1)


def _head(layers: tuple[Dense, ...], x: Any) -> tuple[Any, Any]:
    """Return the last layer's outputs and its inputs."""
    *hidden, last = layers
    for layer in hidden:
        x = jnp.tanh(layer(x))
    return last(x), x


def image_actor_critic(
    observation_space: spaces.Space[Any],
    outputs: Outputs,
    generator: np.random.Generator | None,
    embedding_units: int = 0,
    image_axes: str = "auto",
    activation: ActivationName = "relu",
) -> ImageActorCritic:
    """Make an `ImageActorCritic` with orthogonal weights, as `actor_critic` does.

    Args:
        observation_space: the space of its observations; at least one part must be an image.
        outputs: what it outputs.
        generator: source of the random weights; with None, only shapes are made.
        embedding_units: columns of the embedding table; 0 for no table.
        image_axes: which parts are images, and what each of their axes is.
        activation: name of the activation function of convolutions and shared layer.
    """
    filters, features = _plan(observation_space, embedding_units, image_axes)
    stacks = []
    for plan in filters:
        stack = []
        for inputs, count, stride in plan:
            layer = orthogonal(generator, inputs, count, math.sqrt(2.0))
            stack.append(Convolution(layer.weight, layer.bias, stride))
        stacks.append(tuple(stack))

    def head(last: int, last_gain: float) -> tuple[Dense, ...]:
        sizes = (HIDDEN_UNITS, *HEAD_SIZES)
        hidden = [
            orthogonal(generator, *pair, math.sqrt(2.0)) for pair in itertools.pairwise(sizes)
        ]
        return (*hidden, orthogonal(generator, sizes[-1], last, last_gain))

    return ImageActorCritic(
        convolutions=tuple(stacks),
        hidden=orthogonal(generator, features, HIDDEN_UNITS, math.sqrt(2.0)),
        policy=head(outputs.computed, 0.01),
        value=head(1, 1.0) if outputs.critic else (),
        free=constants(outputs.free, outputs.first_free, generator),
        table=make_table(observation_space, embedding_units, generator),
        observation_space=observation_space,
        image_axes=image_axes,
        activation=activation,
        shows_features=bool(outputs.features),
    )


def _plan(
    observation_space: spaces.Space[Any], embedding_units: int, image_axes: str
) -> tuple[list[list[tuple[int, int, int]]], int]:
    """Return (inputs, filters, stride) of each layer for each image, and the feature count."""
    filters, features = [], 0
    for _, part in parts(observation_space):
        layout = image_layout(part, image_axes)
        if layout is None:
            features += input_size(part, embedding_units)
            continue
        _, height, width, channels = layout
        plan = []
        for count, stride in LARGE_FILTERS if min(height, width) >= LARGE_SIDE else SMALL_FILTERS:
            plan.append((channels * (2 * stride) ** 2, count, stride))
            channels = count
            height, width = height // stride - 1, width // stride - 1
        filters.append(plan)
        features += channels * height * width
    return filters, features
