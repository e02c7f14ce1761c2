"""Lookups equal one-hot products; an embedding table limits the weights of many categories."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.acting import choose_acting, make_actor
from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.categories import MAX_TABLE_WEIGHTS, MIN_UNITS
from poise.agent.encoders import encode, feature_count
from poise.agent.layer_input import layer_input
from poise.batching import stack
from poise.errors import ConfigError, UnsupportedSpaceError

COPIES = 5
PAIR = spaces.Box(-1.0, 1.0, (2,))
MANY: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(300, start=-7),
    "multi-discrete": spaces.MultiDiscrete([[70, 3], [3, 900]], start=[[5, 0], [1, -2]]),
    "alike": spaces.MultiDiscrete([64, 65, 64, 64], dtype=np.int16),
    "tuple": spaces.Tuple([PAIR, spaces.Discrete(100), spaces.MultiBinary(2)]),
    "nested": spaces.Dict(
        {"few": spaces.Discrete(3), "many": spaces.Tuple([spaces.Discrete(90), PAIR]), "v": PAIR}
    ),
}
IMAGE = spaces.Box(0, 255, (16, 12, 3), np.uint8)
ACTIONS = spaces.Discrete(4)
SPEC = NetworkSpec((6,), "free")
TABLE = NetworkSpec((6,), "free", 3)

every_space = pytest.mark.parametrize("space", MANY.values(), ids=MANY.keys())


def batch(space: spaces.Space[Any]) -> Any:
    space.seed(3)
    return stack(space, [space.sample() for _ in range(COPIES)])


@every_space
def test_the_rows_are_the_products_on_numpy_and_in_xla(space: spaces.Space[Any]) -> None:
    weight = np.random.default_rng(0).normal(size=(feature_count(space), 6)).astype(np.float32)
    observations = batch(space)
    expected = encode(space, observations) @ weight
    np.testing.assert_allclose(
        layer_input(space, observations).product(weight), expected, atol=1e-5
    )

    def product(weight: Any) -> Any:
        return jax.vmap(lambda one: layer_input(space, one).product(weight))(observations)

    np.testing.assert_allclose(jax.jit(product)(weight), expected, atol=1e-5)
    found = jax.grad(lambda weight: jnp.sum(jnp.square(product(weight))))(weight)
    by_hand = 2 * encode(space, observations).T @ expected
    np.testing.assert_allclose(found, by_hand, atol=1e-4)


@every_space
@pytest.mark.parametrize("spec", [SPEC, TABLE], ids=["weights", "table"])
def test_acting_is_the_same_on_numpy_and_in_xla(space: spaces.Space[Any], spec: Any) -> None:
    agent, parameters = build_agent(space, ACTIONS, spec, np.random.SeedSequence(1))
    observations, first = batch(space), np.ones(COPIES, np.bool_)
    found = [
        make_actor(agent, acting)(100 * parameters, (), observations, (), first, None).dist_params
        for acting in ("numpy", "xla")
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)
    assert np.ptp(found[0], axis=0).max() > 0


@pytest.mark.parametrize("outside", [-8, 293, 10**6])
@pytest.mark.parametrize("spec", [SPEC, TABLE], ids=["weights", "table"])
def test_invalid_categories_are_0_as_in_one_hot(outside: int, spec: NetworkSpec) -> None:
    """An environment may return a category outside its space; it must not select another row."""
    agent, parameters = build_agent(MANY["discrete"], ACTIONS, spec, np.random.SeedSequence(1))
    other = parameters.copy()
    table = agent.layout.names.index(".table") if spec is TABLE else 0
    begin = sum(int(np.prod(shape)) for shape in agent.layout.shapes[:table])
    other[begin : begin + int(np.prod(agent.layout.shapes[table]))] += 1
    for acting in ("numpy", "xla"):
        act = make_actor(agent, acting)  # type: ignore[arg-type]
        one, two = (
            act(vector, (), np.array([outside]), (), np.ones(1, np.bool_), None).dist_params
            for vector in (parameters, other)
        )
        np.testing.assert_array_equal(one, two)


def test_few_categories_use_weights_and_many_a_bounded_table() -> None:
    def units(space: spaces.Space[Any], *hidden: int) -> int:
        return NetworkSpec.choose(space, hidden, "free").embedding_units

    assert units(spaces.Discrete(63), 100) == units(spaces.Discrete(1000), 100) == 0
    assert units(PAIR, 65_536) == 0
    for count in (10_000, 200_000):
        found = units(spaces.Discrete(count), 100)
        assert found > MIN_UNITS
        assert found * count <= MAX_TABLE_WEIGHTS
    assert units(spaces.Discrete(10**7), 100) == MIN_UNITS
    with_image = spaces.Dict({"image": IMAGE, "place": spaces.Discrete(200_000)})
    assert units(with_image, 100) == units(spaces.Discrete(200_000), 100)


def test_a_huge_space_takes_little_memory_and_numpy_acts() -> None:
    space = spaces.Discrete(200_000)
    spec = NetworkSpec.choose(space, (100,), "free")
    agent, parameters = build_agent(space, ACTIONS, spec, np.random.SeedSequence(0))
    assert parameters.nbytes < 5_000_000
    assert choose_acting(agent, 8) == "numpy"
    vast = spaces.Discrete(2**40)
    with pytest.raises(ConfigError, match="parameters"):
        build_agent(vast, ACTIONS, NetworkSpec.choose(vast, (100,), "free"), None)


def test_a_table_beside_an_image() -> None:
    space = spaces.Dict({"image": IMAGE, "place": MANY["tuple"], "other": spaces.Discrete(80)})
    agent, parameters = build_agent(space, ACTIONS, TABLE, np.random.SeedSequence(0))
    assert agent.layout.shapes[agent.layout.names.index(".table")] == (180, 3)
    observations = batch(space)
    act = make_actor(agent, "xla")
    for index, rows in ((0, slice(0, 100)), (1, slice(100, 180))):
        network = agent.layout.unflatten(parameters.copy())
        network.table[rows] += 1
        vector = agent.layout.flatten(network)
        one, two = (
            act(some, (), observations, (), np.ones(COPIES, np.bool_), None).dist_params
            for some in (parameters, vector)
        )
        assert np.all(np.abs(one - two).max(axis=-1) > 0), index


def test_a_specification_roundtrips_and_an_old_one_has_no_table() -> None:
    assert NetworkSpec.from_json(TABLE.to_json()) == TABLE
    old = SPEC.to_json()
    del old["embedding_units"]
    assert NetworkSpec.from_json(old) == SPEC
    for units in (-1, 10**9):
        with pytest.raises(ValueError, match="embedding units"):
            NetworkSpec.from_json({**old, "embedding_units": units})
    with pytest.raises(ConfigError, match="no categories"):
        build_agent(PAIR, ACTIONS, TABLE, None)


def test_categories_with_too_large_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedSpaceError, match="number them from 0"):
        build_agent(spaces.Discrete(3, start=2**40), ACTIONS, SPEC, None)
