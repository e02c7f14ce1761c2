"""The parameter vector holds a network's inexact arrays, and nothing else."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.agent.parameters import ParameterLayout


class Mixture(eqx.Module):
    """Arrays of several dtypes, and leaves that are not trained."""

    weights: list[Any]
    table: Any
    offset: Any
    half: Any
    rate: float = 0.5
    name: str = eqx.field(static=True, default="mixture")

    def __call__(self, x: Any) -> Any:
        return self.rate * (x @ self.weights[0]) + self.offset + self.half.astype(np.float32)


def mixture() -> Mixture:
    generator = np.random.default_rng(0)
    return Mixture(
        weights=[generator.normal(size=(3, 2)).astype(np.float32), np.zeros(0, np.float32)],
        table=np.array([1, 2, 3], np.int32),
        offset=jnp.asarray(0.25),
        half=np.array([0.1, -65504.0], np.float16),
    )


def test_the_vector_is_the_inexact_arrays_in_order() -> None:
    network = mixture()
    layout = ParameterLayout.of(network)
    assert layout.names == (".weights[0]", ".weights[1]", ".offset", ".half")
    assert layout.shapes == ((3, 2), (0,), (), (2,))
    assert layout.size == 9
    vector = layout.flatten(network)
    assert isinstance(vector, np.ndarray)
    assert vector.dtype == np.float32
    expected = [*network.weights[0].reshape(-1), 0.25, *network.half.astype(np.float32)]
    np.testing.assert_array_equal(vector, np.float32(expected))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_a_network_survives_the_vector(array: Any) -> None:
    network = mixture()
    layout = ParameterLayout.of(network)
    again = layout.unflatten(array(layout.flatten(network)))
    assert jax.tree.structure(again) == jax.tree.structure(network)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(network), strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(layout.flatten(again), layout.flatten(network))
    assert isinstance(again.table, np.ndarray), "what is not trained is never copied"


@pytest.mark.parametrize("seed", range(3))
def test_any_vector_survives_the_network(seed: int) -> None:
    layout = ParameterLayout.of(mixture())
    vector = np.random.default_rng(seed).normal(size=layout.size).astype(np.float32)
    vector[-2:] = vector[-2:].astype(np.float16)
    np.testing.assert_array_equal(layout.flatten(layout.unflatten(vector)), vector)


def test_gradients_flow_through_the_vector() -> None:
    network = mixture()
    layout = ParameterLayout.of(network)
    x = jnp.array([1.0, 2.0, -3.0])
    gradient = jax.jit(jax.grad(lambda vector: jnp.sum(layout.unflatten(vector)(x))))
    expected = [0.5, 0.5, 1.0, 1.0, -1.5, -1.5, 2.0, 1.0, 1.0]
    np.testing.assert_allclose(gradient(layout.flatten(network)), expected, rtol=1e-6)


def test_a_network_without_parameters() -> None:
    layout = ParameterLayout.of({"table": np.arange(3)})
    vector = layout.flatten({"table": np.arange(3)})
    assert vector.shape == (0,)
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(layout.unflatten(vector)["table"], np.arange(3))
