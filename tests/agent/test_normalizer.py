"""Scaling of numbers for the network: by their bounds, or normalised."""

from typing import Any

import jax
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.encoders import encode
from poise.agent.normalizer import Scaling, bounds_describe, needs_normalization, scale_by_bounds

INFINITE = spaces.Box(-np.inf, np.inf, (2,), np.float64)
FAR = np.array([[1e8 - 1, 1e8 + 1], [1e8, 1e8 + 0.5]])


def scaled(space: spaces.Box, numbers: Any) -> np.ndarray:
    found = Scaling(space, "auto", normalized=False)(np.asarray(numbers, space.dtype), ())
    return encode(space, np.asarray(found))


def test_bytes_from_0_to_255_are_divided_by_255_exactly() -> None:
    space = spaces.Box(0, 255, (256,), np.uint8)
    numbers = np.arange(256, dtype=np.uint8)
    expected = numbers.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(scaled(space, numbers), expected)
    on_xla = jax.jit(lambda x: scale_by_bounds(space, x))(numbers)
    before = jax.jit(lambda x: x.astype(np.float32) / np.float32(255))(numbers)
    np.testing.assert_array_equal(on_xla, before)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "numbers", "expected"),
    [
        (0, 1, np.uint8, [0, 1], [0, 1]),
        (0, 10, np.int64, [0, 5], [0, 0.5]),
        (100, 200, np.float32, [100, 200], [0, 1]),
        (-200, -100, np.float64, [-200, -100], [0, 1]),
        (-80, 80, np.float32, [-80, 40], [-1, 0.5]),
        (-8, 8, np.int32, [-8, 4], [-1, 0.5]),
        (-8, 8, np.float32, [-8, 4], [-8, 4]),
        (-0.07, 0.07, np.float64, [-0.07, 0.07], [-1, 1]),
        (20, 21, np.float32, [20, 21], [0, 1]),
        (-128, 127, np.int8, [-128, 127], [-1, 1]),
        (1e8 - 1, 1e8 + 1, np.float64, [1e8 - 1, 1e8 + 0.5], [0, 0.75]),
        (7, 7, np.int32, [7, 7], [0, 0]),
        ([-1.2, -0.07], [0.6, 0.07], np.float32, [-0.3, 0.07], [-0.3, 1]),
    ],
)
def test_bounded_numbers_fill_the_range_of_a_network(
    low: Any, high: Any, dtype: Any, numbers: Any, expected: Any
) -> None:
    shape = (2,)
    low, high = (np.broadcast_to(np.asarray(one, dtype), shape) for one in (low, high))
    found = scaled(spaces.Box(low, high, shape, dtype), numbers)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_numbers_around_1_are_left_as_they_are() -> None:
    observation = np.array([0.3, -1.0], np.float32)
    scaling = Scaling(spaces.Box(-1, 1, (2,)), "auto", normalized=False)
    assert scaling(observation, ()) is observation


@pytest.mark.parametrize(
    ("space", "described"),
    [
        (spaces.Box(-1, 1, (2,)), True),
        (spaces.Box(0, 255, (2,), np.uint8), True),
        (spaces.Box(0, np.inf, (2,)), False),
        (spaces.Box(-3.4e38, 3.4e38, (2,)), False),
        (spaces.Box(-(2**62), 2**62, (2,), np.int64), False),
        (spaces.Box(np.float32([0, -np.inf]), np.float32([1, np.inf])), False),
        (spaces.Box(-1e308, 1e308, (2,), np.float64), False),
    ],
)
def test_wide_bounds_are_not_used_for_scaling(space: spaces.Box, described: bool) -> None:
    assert bounds_describe(space) is described
    nested = spaces.Dict({"a": spaces.Tuple([spaces.Discrete(3), space])})
    assert needs_normalization(nested) is not described


def test_large_numbers_close_to_each_other_stay_distinct() -> None:
    scaling = Scaling(INFINITE, "auto", normalized=True)
    assert scaling.count == 2
    statistics = np.array([1e8, 1e8]), np.ones(2, np.float32)
    seen = scaling(FAR, statistics)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen, [[-1, 1], [0, 0.5]])
    np.testing.assert_array_equal(scaling(1e9 * FAR, statistics), 10.0)


def test_a_policy_acts_on_numbers_beyond_float32_precision() -> None:
    for acting_on in (INFINITE, spaces.Dict({"a": INFINITE, "b": spaces.Discrete(2)})):
        spec = NetworkSpec((8,), normalize_observations=True)
        agent, parameters = build_agent(
            acting_on, spaces.Discrete(2), spec, np.random.SeedSequence(0)
        )
        statistics = np.array([1e8, 1e8]), np.ones(2, np.float32)
        is_box = isinstance(acting_on, spaces.Box)
        batch: Any = FAR if is_box else {"a": FAR, "b": np.array([1, 1])}
        values = agent.values(parameters, statistics, batch, np.ones(2, np.bool_))
        assert abs(float(values[0] - values[1])) > 1e-3


def test_all_numbers_but_images_bits_and_categories_are_normalised() -> None:
    space = spaces.Dict(
        {
            "bytes": spaces.Box(0, 255, (3,), np.uint8),
            "count": spaces.Box(0, 2**31 - 1, (1,), np.int32),
            "float": spaces.Box(-1, 1, (2,)),
            "image": spaces.Box(0, 255, (12, 12), np.uint8),
            "bits": spaces.Box(0, 1, (5,), np.bool_),
            "kind": spaces.Discrete(4),
        }
    )
    assert Scaling(space, "auto", normalized=True).count == 6
    assert Scaling(space, "auto", normalized=False).count == 0
    observation = {key: np.asarray(one)[None] for key, one in space.sample().items()}
    gathered = Scaling(space, "auto", normalized=True).gather(observation)
    assert gathered.shape == (1, 6)
    assert gathered.dtype == np.float64


def test_numpy_and_xla_agree_on_batches_with_any_leading_axes() -> None:
    space = spaces.Tuple([spaces.Box(-np.inf, np.inf, (2, 2)), spaces.Box(0, 9, (3,), np.int8)])
    scaling = Scaling(space, "auto", normalized=True)
    generator = np.random.default_rng(0)
    observation = (
        generator.normal(size=(5, 3, 2, 2)).astype(np.float32),
        generator.integers(0, 9, (5, 3, 3)).astype(np.int8),
    )
    statistics = generator.normal(size=7), np.full(7, 2.0, np.float32)
    on_numpy = scaling(observation, statistics)
    on_xla = jax.jit(scaling)(observation, statistics)
    for one, other in zip(on_numpy, on_xla, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
