"""Distributions are compared with SciPy, and samples with their probabilities."""

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from poise.maths import distributions
from poise.maths.namespace import array_namespace

SAMPLES = 20_000
LOGITS = np.array([0.3, -1.2, 2.0, 0.0], np.float32)
MEAN = np.array([0.5, -2.0, 1.0], np.float32)
LOG_SCALE = np.array([-1.0, 0.4, 0.0], np.float32)

both = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def batches(width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (5, 2, width)).astype(np.float32)


def frequencies_match(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """Check that frequencies are within four standard deviations of a binomial distribution."""
    deviation = np.sqrt(probabilities * (1 - probabilities) / SAMPLES)
    assert np.all(np.abs(counts / SAMPLES - probabilities) < 4 * deviation)


def categorical_log_probability(xp: ModuleType, logits: Any, index: Any) -> Any:
    """Compute log-probabilities; on JAX one at a time, as poise does."""
    formula = distributions.categorical_log_probability
    return (jnp.vectorize(formula, signature="(n),()->()") if xp is jnp else formula)(logits, index)


# --- Categorical ----------------------------------------------------------------------------------


@both
def test_log_softmax(xp: ModuleType) -> None:
    logits = batches(4)
    expected = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    close(distributions.log_softmax(xp.asarray(logits)), expected)


@both
def test_categorical_probabilities_sum_to_1(xp: ModuleType) -> None:
    logits = xp.asarray(batches(4))
    total = 0.0
    for category in range(4):
        index = xp.full((5, 2), category, np.int32)
        total = total + np.exp(categorical_log_probability(xp, logits, index))
    close(total, np.ones((5, 2)))


@both
def test_categorical_log_probability(xp: ModuleType) -> None:
    expected = np.log(scipy.special.softmax(LOGITS.astype(np.float64)))
    logits = xp.broadcast_to(xp.asarray(LOGITS), (4, 4))
    close(categorical_log_probability(xp, logits, xp.arange(4)), expected)


@both
def test_categorical_entropy(xp: ModuleType) -> None:
    logits = batches(4)
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    expected = scipy.stats.entropy(probabilities, axis=-1)
    close(distributions.categorical_entropy(xp.asarray(logits)), expected)


def test_uniform_is_the_largest_entropy() -> None:
    close(distributions.categorical_entropy(np.zeros(7, np.float32)), np.log(7))


@both
def test_categorical_samples_have_their_probabilities(xp: ModuleType) -> None:
    noise = np.random.default_rng(3).gumbel(size=(SAMPLES, 4)).astype(np.float32)
    logits = xp.broadcast_to(xp.asarray(LOGITS), (SAMPLES, 4))
    samples = np.asarray(distributions.categorical_sample(logits, xp.asarray(noise)))
    assert samples.dtype == np.int32
    counts = np.bincount(samples, minlength=4)
    frequencies_match(counts, scipy.special.softmax(LOGITS.astype(np.float64)))


@both
def test_categorical_without_noise_is_the_mode(xp: ModuleType) -> None:
    logits = batches(4)
    sample = distributions.categorical_sample(xp.asarray(logits), xp.zeros_like(logits))
    np.testing.assert_array_equal(sample, np.argmax(logits, -1))


@both
def test_of_equal_categories_the_first_is_taken_and_nan_before_all(xp: ModuleType) -> None:
    infinity = np.float32(np.inf)
    logits = np.array([[1, 5, 5], [-infinity] * 3, [np.nan, infinity, 0], [2, np.nan, 9]])
    logits = logits.astype(np.float32)
    with jax.debug_nans(False):
        sample = distributions.categorical_sample(xp.asarray(logits), xp.zeros((4, 3), np.float32))
    np.testing.assert_array_equal(sample, np.argmax(logits, -1))
    np.testing.assert_array_equal(sample, [1, 0, 0, 1])


# --- Gaussian -------------------------------------------------------------------------------------


@both
def test_gaussian_log_probability(xp: ModuleType) -> None:
    sample = batches(3)
    normal = scipy.stats.norm(MEAN.astype(np.float64), np.exp(LOG_SCALE.astype(np.float64)))
    expected = normal.logpdf(sample).sum(-1)
    mean, log_scale = (xp.broadcast_to(xp.asarray(one), (5, 2, 3)) for one in (MEAN, LOG_SCALE))
    found = distributions.gaussian_log_probability(mean, log_scale, xp.asarray(sample))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@both
def test_gaussian_entropy(xp: ModuleType) -> None:
    expected = scipy.stats.norm(0, np.exp(LOG_SCALE.astype(np.float64))).entropy().sum()
    close(distributions.gaussian_entropy(xp.asarray(LOG_SCALE)), expected)


@both
def test_gaussian_samples_have_their_moments(xp: ModuleType) -> None:
    noise = np.random.default_rng(4).standard_normal((SAMPLES, 3), np.float32)
    mean, log_scale = (xp.broadcast_to(xp.asarray(one), (SAMPLES, 3)) for one in (MEAN, LOG_SCALE))
    samples = np.asarray(distributions.gaussian_sample(mean, log_scale, xp.asarray(noise)))
    scale = np.exp(LOG_SCALE)
    assert np.all(np.abs(samples.mean(0) - MEAN) < 4 * scale / np.sqrt(SAMPLES))
    np.testing.assert_allclose(samples.std(0), scale, rtol=0.03)


@both
def test_gaussian_without_noise_is_the_mode(xp: ModuleType) -> None:
    mean, log_scale = xp.asarray(MEAN), xp.asarray(LOG_SCALE)
    sample = distributions.gaussian_sample(mean, log_scale, xp.zeros_like(mean))
    np.testing.assert_array_equal(sample, MEAN)


# --- Bernoulli ------------------------------------------------------------------------------------


@both
def test_bernoulli_probabilities_sum_to_1(xp: ModuleType) -> None:
    logits = batches(3)
    total = 0.0
    for bits in itertools.product([0, 1], repeat=3):
        every = xp.broadcast_to(xp.asarray(bits, np.int32), (5, 2, 3))
        found = distributions.bernoulli_log_probability(xp.asarray(logits), every)
        probability = scipy.stats.bernoulli(scipy.special.expit(logits.astype(np.float64)))
        np.testing.assert_allclose(found, probability.logpmf(bits).sum(-1), rtol=1e-5, atol=1e-5)
        total = total + np.exp(found)
    close(total, np.ones((5, 2)))


@both
def test_bernoulli_entropy(xp: ModuleType) -> None:
    logits = batches(3)
    expected = scipy.stats.bernoulli(scipy.special.expit(logits.astype(np.float64))).entropy()
    close(distributions.bernoulli_entropy(xp.asarray(logits)), expected.sum(-1))


@both
def test_bernoulli_samples_have_their_probabilities(xp: ModuleType) -> None:
    noise = np.random.default_rng(5).logistic(size=(SAMPLES, 4)).astype(np.float32)
    logits = xp.broadcast_to(xp.asarray(LOGITS), (SAMPLES, 4))
    samples = np.asarray(distributions.bernoulli_sample(logits, xp.asarray(noise)))
    assert samples.dtype == np.int32
    frequencies_match(samples.sum(0), scipy.special.expit(LOGITS.astype(np.float64)))


@both
def test_bernoulli_without_noise_is_the_mode(xp: ModuleType) -> None:
    logits = batches(3)
    sample = distributions.bernoulli_sample(xp.asarray(logits), xp.zeros_like(logits))
    np.testing.assert_array_equal(sample, logits > 0)


# --- All of them ----------------------------------------------------------------------------------

FORMULAS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "log_softmax": (distributions.log_softmax, (batches(4),)),
    "categorical_log_probability": (
        distributions.categorical_log_probability,
        (batches(4), np.ones((5, 2), np.int32)),
    ),
    "categorical_entropy": (distributions.categorical_entropy, (batches(4),)),
    "categorical_sample": (distributions.categorical_sample, (batches(4), batches(4, 1))),
    "gaussian_log_probability": (
        distributions.gaussian_log_probability,
        (batches(4), batches(4, 1) / 3, batches(4, 2)),
    ),
    "gaussian_entropy": (distributions.gaussian_entropy, (batches(4),)),
    "gaussian_sample": (
        distributions.gaussian_sample,
        (batches(4), batches(4, 1) / 3, batches(4, 2)),
    ),
    "bernoulli_log_probability": (
        distributions.bernoulli_log_probability,
        (batches(4), (batches(4, 1) > 0).astype(np.int32)),
    ),
    "bernoulli_entropy": (distributions.bernoulli_entropy, (batches(4),)),
    "bernoulli_sample": (distributions.bernoulli_sample, (batches(4), batches(4, 1))),
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_numpy_and_jax_agree(name: str) -> None:
    formula, given = FORMULAS[name]
    on_numpy, on_jax = formula(*given), formula(*map(jnp.asarray, given))
    assert array_namespace(on_numpy) is np
    assert array_namespace(on_jax) is jnp
    assert on_numpy.shape == on_jax.shape
    np.testing.assert_allclose(on_numpy, on_jax, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    sorted(FORMULAS),
)
def test_numpy_and_jax_agree_on_the_dtype(name: str) -> None:
    formula, given = FORMULAS[name]
    assert formula(*given).dtype == formula(*map(jnp.asarray, given)).dtype


def test_the_namespace_of_a_mixture_is_jax() -> None:
    assert array_namespace(np.ones(2), np.float32(1), 1.0, 1) is np
    assert array_namespace(np.ones(2), jnp.ones(2)) is jnp


@both
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_large_logits_do_not_overflow(xp: ModuleType, size: float) -> None:
    logits = xp.asarray([size, -size, 0.0], np.float32)
    index, bits = xp.asarray(0), xp.asarray([1, 0, 1])
    assert distributions.categorical_log_probability(logits, index) == 0.0
    assert abs(distributions.categorical_entropy(logits)) < 1e-6
    close(distributions.bernoulli_log_probability(logits, bits), -np.log(2.0))
    close(distributions.bernoulli_entropy(logits), np.log(2.0))
    unlikely = distributions.categorical_log_probability(logits, xp.asarray(1))
    np.testing.assert_allclose(unlikely, -2 * size, rtol=1e-6)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_large_logits_have_finite_gradients(size: float) -> None:
    logits = jnp.asarray([size, -size, 0.0], np.float32)
    bits = jnp.asarray([1, 0, 1])

    def everything(logits: jax.Array) -> jax.Array:
        return (
            distributions.categorical_log_probability(logits, jnp.asarray(0))
            + distributions.categorical_entropy(logits)
            + distributions.bernoulli_log_probability(logits, bits)
            + distributions.bernoulli_entropy(logits)
        )

    close(jax.grad(everything)(logits), [0.0, 0.0, 0.5])
