"""Merged moments equal the moments of all rows together."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.maths.statistics import Moments, merge_moments, moments_of, normalization

NOTHING = Moments(np.float64(0), np.zeros(2), np.zeros(2))


def plain(rows: np.ndarray) -> Moments:
    """Compute moments by definition, in float64."""
    rows = rows.astype(np.float64)
    mean = rows.mean(0)
    return Moments(np.float64(len(rows)), mean, np.sum((rows - mean) ** 2, axis=0))


def close(one: Moments, other: Moments, rtol: float = 1e-9) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-9)


def test_moments_are_of_the_valid_rows() -> None:
    rows = np.random.default_rng(0).normal(3, 2, (30, 2)).astype(np.float32)
    valid = np.random.default_rng(1).random(30) < 0.6
    found = moments_of(jnp.asarray(rows), jnp.asarray(valid))
    close(found.absolute(), plain(rows[valid]), rtol=1e-5)


def test_no_valid_row_counts_nothing() -> None:
    found = moments_of(jnp.ones((3, 2)), jnp.zeros(3, bool))
    assert found.number == 0
    np.testing.assert_array_equal(found.squares, 0.0)
    before = plain(np.random.default_rng(0).normal(size=(4, 2)))
    close(merge_moments(before, found.absolute()), before)
    close(merge_moments(NOTHING, NOTHING), NOTHING)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_merged_in_any_batches_they_are_those_of_all(sizes: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    batches = [100 + 5 * generator.normal(size=(size, 2)) for size in sizes]
    merged = NOTHING
    for index in generator.permutation(len(batches)):
        merged = merge_moments(merged, plain(batches[index]))
    close(merged, plain(np.concatenate(batches)))


def test_normalised_numbers_have_mean_0_and_variance_1() -> None:
    rows = np.random.default_rng(2).normal([5.0, -300.0], [0.1, 40.0], (500, 2))
    mean, scale = normalization(plain(rows))
    assert (mean.dtype, scale.dtype) == (np.float64, np.float32)
    normalised = (rows - mean) * scale
    np.testing.assert_allclose(normalised.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(0), 1.0, rtol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_constant_numbers_and_none_stay_finite(rows: int) -> None:
    moments = plain(np.full((rows, 2), 3.0)) if rows else NOTHING
    mean, scale = normalization(moments)
    np.testing.assert_array_equal(mean, 3.0 if rows else 0.0)
    assert np.all(np.isfinite(scale))
    if not rows:
        np.testing.assert_array_equal(scale, 1.0)


@pytest.mark.parametrize(
    ("offset", "spread", "on_xla"), [(1e6, 50.0, True), (1e6, 50.0, False), (1e8, 1.0, False)]
)
def test_numbers_far_from_0_keep_their_spread(offset: float, spread: float, on_xla: bool) -> None:
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (64, 2))
    rows, valid = offset + spread * signs, np.ones(64, np.bool_)
    arrays = (jnp.asarray(rows, jnp.float32), jnp.asarray(valid)) if on_xla else (rows, valid)
    merged = merge_moments(NOTHING, moments_of(*arrays).absolute())
    close(merged, plain(rows), rtol=1e-4 if on_xla else 1e-9)
    mean, scale = normalization(merged)
    np.testing.assert_allclose((rows - mean) * scale, signs, atol=0.5)
