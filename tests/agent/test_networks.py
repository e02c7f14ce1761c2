"""The MLP network: shapes, layers and initial weights are as documented."""

import math
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.activations import ACTIVATIONS, ActivationName
from poise.agent.layers import Dense, Outputs, orthogonal
from poise.agent.networks import ActorCritic, MlpNetwork, actor_critic

OBSERVATIONS = spaces.Box(-1.0, 1.0, (4,))


def network(hidden: tuple[int, ...] = (8, 5), free: int = 0, seed: int | None = 0) -> ActorCritic:
    generator = None if seed is None else np.random.default_rng(seed)
    return actor_critic(OBSERVATIONS, Outputs(3, free), hidden, generator)


def is_orthogonal(layer: Dense, gain: float) -> None:
    weight = np.asarray(layer.weight, np.float64)
    small = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-6)
    np.testing.assert_array_equal(layer.bias, 0.0)


@pytest.mark.parametrize("hidden", [(8,), (3, 7), (4, 4, 4), ()])
def test_initial_weights_are_orthogonal_with_their_gains(hidden: tuple[int, ...]) -> None:
    made = network(hidden)
    for trunk, last_gain in ((made.policy, 0.01), (made.value, 1.0)):
        assert len(trunk) == len(hidden) + 1
        for layer in trunk[:-1]:
            is_orthogonal(layer, np.sqrt(2))
        is_orthogonal(trunk[-1], last_gain)


def test_initial_weights_have_no_preferred_sign() -> None:
    """The signs in a QR decomposition depend on the algorithm unless they are normalised."""
    weights = [network((4,), seed=seed).policy[0].weight for seed in range(300)]
    assert np.all(np.abs(np.mean(weights, axis=0)) < 0.3)


def test_the_initial_policy_is_nearly_uniform() -> None:
    parameters, _ = network()(np.ones((1, 4), np.float32))
    assert np.max(np.abs(parameters)) < 0.05


@pytest.mark.parametrize(("hidden", "free"), [((8, 5), 0), ((6,), 2), ((), 1)])
def test_shapes(hidden: tuple[int, ...], free: int) -> None:
    made = network(hidden, free)
    for leading in ((), (7,), (2, 7)):
        observation = np.zeros((*leading, 4), np.float32)
        parameters, value = made(observation)
        assert parameters.shape == (*leading, 3 + free)
        assert value.shape == leading
        assert parameters.dtype == value.dtype == np.float32


def test_the_forward_pass_is_relu_layers() -> None:
    made = network((6,), free=2)
    free = np.array([0.5, -0.5], np.float32)
    made = ActorCritic(made.policy, made.value, free, OBSERVATIONS, "relu")
    x = np.random.default_rng(3).normal(size=4)
    outputs = {}
    for name in ("policy", "value"):
        first, last = getattr(made, name)
        hidden = [max(0.0, float(np.dot(x, column))) for column in first.weight.T]
        outputs[name] = [float(np.dot(hidden, column)) for column in last.weight.T]
    parameters, value = made(x.astype(np.float32))
    np.testing.assert_allclose(parameters, [*outputs["policy"], *free], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, outputs["value"][0], rtol=1e-4)


def test_numpy_batches_agree_with_vmapped_jax() -> None:
    made = network(free=2)
    observations = np.random.default_rng(4).normal(size=(9, 4)).astype(np.float32)
    for one, other in zip(made(observations), jax.vmap(made)(observations), strict=True):
        assert isinstance(one, np.ndarray)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_policy_and_value_share_nothing() -> None:
    made, other = network(seed=1), network(seed=2)
    mixed = ActorCritic(made.policy, other.value, made.free, OBSERVATIONS, "relu")
    observation = np.ones(4, np.float32)
    np.testing.assert_array_equal(mixed(observation)[0], made(observation)[0])
    assert mixed(observation)[1] == other(observation)[1]
    mine, theirs = (jax.tree.leaves(trunk) for trunk in (made.policy, made.value))
    assert not any(one is two for one in mine for two in theirs)


def test_a_seed_determines_the_weights() -> None:
    one, same, other = (jax.tree.leaves(network(seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_without_a_generator_there_are_shapes_only() -> None:
    shapes, made = (jax.tree.leaves(network(seed=seed)) for seed in (None, 0))
    assert all(isinstance(one, jax.ShapeDtypeStruct) for one in shapes)
    assert [(one.shape, one.dtype) for one in shapes] == [(one.shape, one.dtype) for one in made]


@pytest.mark.parametrize(("hidden", "free"), [((8, 5), 0), ((6,), 2), ((), 1), ((3, 3, 3), 4)])
def test_parameters_are_counted_without_making_them(hidden: tuple[int, ...], free: int) -> None:
    made = sum(leaf.size for leaf in jax.tree.leaves(network(hidden, free)))
    shapes = jax.tree.leaves(MlpNetwork(OBSERVATIONS, Outputs(3, free), hidden).shapes())
    assert sum(math.prod(shape.shape) for shape in shapes) == made


@pytest.mark.parametrize("space", [OBSERVATIONS, spaces.Discrete(300)])
@pytest.mark.parametrize("units", [0, 3])
def test_multiplications_are_those_of_the_products(space: spaces.Space[Any], units: int) -> None:
    """Lookups, in a table or in a layer's weights, are not counted."""
    units = units if isinstance(space, spaces.Discrete) else 0
    inputs = 4 if space is OBSERVATIONS else units
    network = MlpNetwork(space, Outputs(3), (8, 5), units)
    trunks = 2 * ((inputs + 1) * 8 + 9 * 5) + 6 * (3 + 1)
    assert network.multiplications == trunks


LITERAL_ACTIVATIONS: dict[ActivationName, Callable[[float], float]] = {
    "tanh": math.tanh,
    "relu": lambda x: x if x > 0 else 0.0,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def test_every_activation_has_a_literal_transcription() -> None:
    assert LITERAL_ACTIVATIONS.keys() == ACTIVATIONS.keys() == set(get_args(ActivationName))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_their_formulas(name: ActivationName) -> None:
    numbers = np.array([-500.0, -20.0, -3.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 2.0, 30.0], np.float32)
    expected = [LITERAL_ACTIVATIONS[name](float(x)) for x in numbers]
    for found in (ACTIVATIONS[name](numbers), ACTIVATIONS[name](jnp.asarray(numbers))):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)
    # No warning and no overflow, where NumPy's exponential would have one.
    assert np.isfinite(ACTIVATIONS[name](np.array([-3e4, 3e4], np.float32))).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_numpy_acts_with_the_activation_of_the_module(name: ActivationName) -> None:
    network = MlpNetwork(OBSERVATIONS, Outputs(3, 1), (8, 5), activation=name)
    parameters = network.init(np.random.default_rng(0))
    observations = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    expected = network.module(parameters)(observations)[0]
    np.testing.assert_array_equal(network.numpy_policy(parameters)(observations), expected)
    apply = jax.jit(jax.vmap(lambda one: network.evaluate(parameters, one)[0]))
    np.testing.assert_allclose(apply(observations), expected, rtol=1e-4, atol=1e-6)
    other = "relu" if name != "relu" else "tanh"
    plain = MlpNetwork(OBSERVATIONS, Outputs(3, 1), (8, 5), activation=other)
    same_weights = plain.init(np.random.default_rng(0))
    assert not np.array_equal(plain.numpy_policy(same_weights)(observations), expected)


@pytest.mark.parametrize(("rows", "columns"), [(4, 64), (64, 64), (64, 2), (64, 1)])
def test_initial_weights_are_those_of_torch(rows: int, columns: int) -> None:
    """`torch.nn.init.orthogonal_`, as SB3's ActorCriticPolicy calls it, step by step.

    It fills a weight of shape [outputs, inputs]; only the order of drawing differs, because torch
    transposes a wide matrix after drawing it.
    """
    drawn = np.random.default_rng(5).standard_normal((max(rows, columns), min(rows, columns)))
    flattened = drawn.T if columns < rows else drawn  # [outputs, inputs]
    if columns < rows:
        flattened = flattened.T
    q, r = np.linalg.qr(flattened)
    q = q * np.sign(np.diag(r))
    if columns < rows:
        q = q.T
    expected = np.sqrt(2.0) * q
    layer = orthogonal(np.random.default_rng(5), rows, columns, np.sqrt(2.0))
    # A square matrix is drawn as one of inputs x outputs; both are equally probable.
    expected = expected if rows == columns else expected.T
    np.testing.assert_array_equal(layer.weight, expected.astype(np.float32))
    np.testing.assert_array_equal(layer.bias, np.zeros(columns))
