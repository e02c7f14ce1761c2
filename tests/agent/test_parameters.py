"""The flat vector holds a pytree's arrays, or the trainable arrays of an Equinox module."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.agent.equinox_network import EquinoxNetwork
from poise.agent.network import Network
from poise.agent.parameters import ParameterLayout
from poise.errors import ConfigError


class Mixture(eqx.Module):
    """Arrays of several dtypes, and leaves that are not trained."""

    weights: list[Any]
    offset: Any
    half: Any
    rate: float = 0.5
    name: str = eqx.field(static=True, default="mixture")

    def __call__(self, x: Any) -> tuple[Any, Any]:
        y = self.rate * (x @ self.weights[0]) + self.offset + self.half.astype(np.float32)
        return y, y[..., 0]


def mixture(generator: np.random.Generator | None = None) -> Mixture:
    generator = generator or np.random.default_rng(0)
    return Mixture(
        weights=[generator.normal(size=(3, 2)).astype(np.float32), np.zeros(0, np.float32)],
        offset=jnp.asarray(0.25),
        half=np.array([0.1, -65504.0], np.float16),
    )


NETWORK = EquinoxNetwork(mixture)


def first_parameters() -> Any:
    return NETWORK.init(np.random.default_rng(0))


def test_a_module_is_a_network() -> None:
    assert isinstance(NETWORK, Network)
    assert NETWORK.describe() == "Mixture"
    x = np.float32([1, 2, 3])
    output = NETWORK.apply(first_parameters(), x, (), np.bool_(True))
    expected, value = mixture()(x)
    np.testing.assert_array_equal(output.dist_params, expected)
    assert output.value == value
    assert output.state == ()


def test_the_layout_is_known_before_the_module_is_made() -> None:
    layout = ParameterLayout.of(NETWORK.shapes())
    assert layout == ParameterLayout.of(first_parameters())


def test_arrays_that_are_not_trained_are_refused_by_name() -> None:
    class Counts(Mixture):
        table: Any = None

    def make(generator: Any) -> Counts:
        return Counts(**vars(mixture()), table=np.array([1, 2, 3], np.int32))

    with pytest.raises(ConfigError, match=r"\.table has dtype int32, which is not trained"):
        EquinoxNetwork(make)


def test_the_vector_is_the_arrays_in_order() -> None:
    parameters = first_parameters()
    layout = ParameterLayout.of(parameters)
    assert layout.names == (".weights[0]", ".weights[1]", ".offset", ".half")
    assert layout.shapes == ((3, 2), (0,), (), (2,))
    assert layout.size == 9
    vector = layout.flatten(parameters)
    assert isinstance(vector, np.ndarray)
    assert vector.dtype == np.float32
    expected = [*parameters.weights[0].reshape(-1), 0.25, *parameters.half.astype(np.float32)]
    np.testing.assert_array_equal(vector, np.float32(expected))
    parts = layout.split(vector)
    assert list(parts) == list(layout.names)
    np.testing.assert_array_equal(parts[".weights[0]"], parameters.weights[0])


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_parameters_survive_the_vector(array: Any) -> None:
    parameters = first_parameters()
    layout = ParameterLayout.of(parameters)
    again = layout.unflatten(array(layout.flatten(parameters)))
    assert jax.tree.structure(again) == jax.tree.structure(parameters)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(parameters), strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(layout.flatten(again), layout.flatten(parameters))


@pytest.mark.parametrize("seed", range(3))
def test_any_vector_survives_the_parameters(seed: int) -> None:
    layout = ParameterLayout.of(first_parameters())
    vector = np.random.default_rng(seed).normal(size=layout.size).astype(np.float32)
    vector[-2:] = vector[-2:].astype(np.float16)
    np.testing.assert_array_equal(layout.flatten(layout.unflatten(vector)), vector)


def test_gradients_flow_through_the_vector() -> None:
    layout = ParameterLayout.of(first_parameters())
    x = jnp.array([1.0, 2.0, -3.0])
    gradient = jax.jit(
        jax.grad(lambda vector: jnp.sum(NETWORK.evaluate(layout.unflatten(vector), x)[0]))
    )
    expected = [0.5, 0.5, 1.0, 1.0, -1.5, -1.5, 2.0, 1.0, 1.0]
    np.testing.assert_allclose(gradient(layout.flatten(first_parameters())), expected, rtol=1e-6)


def test_no_parameters() -> None:
    layout = ParameterLayout.of({})
    vector = layout.flatten({})
    assert vector.shape == (0,)
    assert vector.dtype == np.float32
    assert layout.unflatten(vector) == {}
