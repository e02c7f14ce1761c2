"""The convolution over tiles is XLA's convolution, and so is its gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.agent.image_network import Convolution

SHAPES = [
    pytest.param((84, 84, 4), 4, 16, id="the first layer of the paper"),
    pytest.param((20, 20, 16), 2, 32, id="the second layer of the paper", marks=pytest.mark.slow),
    pytest.param((11, 9, 3), 2, 5, id="sides that the stride does not divide"),
]


def layer(inputs: int, stride: int, filters: int, rng: np.random.Generator) -> Convolution:
    weight = rng.normal(size=(inputs * (2 * stride) ** 2, filters)).astype(np.float32)
    return Convolution(weight, rng.normal(size=filters).astype(np.float32), stride)


def by_xla(weight: Any, bias: Any, images: Any, stride: int) -> Any:
    """Apply the same filters to ``[N, height, width, in]`` with XLA's own convolution."""
    inputs, filters = images.shape[-1], weight.shape[-1]
    parts = weight.reshape(2, 2, stride, stride, inputs, filters).transpose(0, 2, 1, 3, 4, 5)
    kernel = parts.reshape(2 * stride, 2 * stride, inputs, filters)
    # Only whole tiles count: a filter never reaches into a remainder at the edge.
    rows, columns = (stride * (side // stride) for side in images.shape[1:3])
    convolved = jax.lax.conv_general_dilated(
        images[:, :rows, :columns],
        kernel,
        (stride, stride),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return convolved + bias[None, None, None, :]


@pytest.mark.parametrize(("shape", "stride", "filters"), SHAPES)
def test_values_and_gradients_are_those_of_xla(
    shape: tuple[int, int, int], stride: int, filters: int
) -> None:
    rng = np.random.default_rng(0)
    made = layer(shape[-1], stride, filters, rng)
    images = rng.uniform(size=(3, *shape)).astype(np.float32)

    def ours(weight: Any, bias: Any, images: Any) -> Any:
        return jax.vmap(Convolution(weight, bias, stride))(images)

    def theirs(weight: Any, bias: Any, images: Any) -> Any:
        return by_xla(weight, bias, images, stride)

    arguments = made.weight, made.bias, images
    expected = theirs(*arguments)
    np.testing.assert_allclose(ours(*arguments), expected, rtol=1e-4, atol=1e-4)
    towards = rng.normal(size=expected.shape).astype(np.float32)
    found, wanted = (
        jax.grad(lambda *given, one=one: jnp.sum(one(*given) * towards), (0, 1, 2))(*arguments)
        for one in (ours, theirs)
    )
    for mine, their in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-3, atol=2e-3)
