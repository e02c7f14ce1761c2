"""The optimizer is compared with literal versions of Adam and of the A3C paper's RMSProp."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest

from poise.learning.optimizer import make_optimizer

UPDATES = 12
SETTINGS: dict[str, Any] = {
    "max_gradient_norm": math.inf,
    "epsilon": 1e-2,
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "rmsprop_decay": 0.9,
}


def gradients(size: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(0, size, (UPDATES, 5))
    drawn[:, 4] = 0.0
    return drawn.astype(np.float32)


def rates() -> np.ndarray:
    return np.linspace(0.1, 0.0, UPDATES, dtype=np.float32)


def found(kind: Any, steps: np.ndarray, **settings: Any) -> np.ndarray:
    """Return the parameters after each update."""
    initialise, update = make_optimizer(kind, **(SETTINGS | settings))
    parameters = np.ones(steps.shape[1], np.float32)
    state = initialise(parameters)
    compiled = jax.jit(update, compiler_options={"xla_backend_optimization_level": 0})
    rows = []
    for gradient, rate in zip(steps, rates(), strict=True):
        norm = np.float32(np.linalg.norm(gradient))
        parameters, state = compiled(parameters, state, gradient, norm, rate)
        rows.append(np.asarray(parameters))
    return np.stack(rows)


def clipped(gradient: np.ndarray, limit: float) -> np.ndarray:
    norm = math.sqrt(sum(float(one) ** 2 for one in gradient))
    return gradient * (limit / norm) if norm > limit else gradient


def adam(
    steps: np.ndarray, epsilon: float, limit: float, beta1: float = SETTINGS["adam_beta1"]
) -> np.ndarray:
    """Kingma & Ba 2015, Algorithm 1."""
    beta2 = SETTINGS["adam_beta2"]
    theta, m, v = np.ones(5), np.zeros(5), np.zeros(5)
    rows = []
    for t, (gradient, rate) in enumerate(zip(steps.astype(np.float64), rates(), strict=True), 1):
        gradient = clipped(gradient, limit)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        theta = theta - rate * m_hat / (np.sqrt(v_hat) + epsilon)
        rows.append(theta)
    return np.stack(rows)


def rmsprop(steps: np.ndarray, epsilon: float, limit: float) -> np.ndarray:
    """Mnih et al. 2016, equation S2 and S3: epsilon is under the square root."""
    alpha = SETTINGS["rmsprop_decay"]
    theta, g = np.ones(5), np.zeros(5)
    rows = []
    for gradient, rate in zip(steps.astype(np.float64), rates(), strict=True):
        gradient = clipped(gradient, limit)
        g = alpha * g + (1 - alpha) * gradient**2
        theta = theta - rate * gradient / np.sqrt(g + epsilon)
        rows.append(theta)
    return np.stack(rows)


@pytest.mark.parametrize("limit", [math.inf, 0.5, 2.0])
def test_adam_without_momentum_is_adam(limit: float) -> None:
    """It has no array of means, but its results are the same."""
    settings = {"adam_beta1": 0.0, "max_gradient_norm": limit}
    steps = gradients()
    expected = adam(steps, SETTINGS["epsilon"], limit, beta1=0.0)
    np.testing.assert_allclose(found("adam", steps, **settings), expected, rtol=1e-4, atol=1e-6)
    initialise, _ = make_optimizer("adam", **(SETTINGS | settings))
    arrays = [leaf for leaf in jax.tree.leaves(initialise(np.ones(5, np.float32))) if leaf.ndim]
    assert len(arrays) == 1


def rmsprop_of_torch(steps: np.ndarray, epsilon: float) -> np.ndarray:
    """`torch.optim.RMSprop`, which SB3's A2C uses: epsilon is added to the root."""
    alpha = SETTINGS["rmsprop_decay"]
    theta, square_avg = np.ones(5), np.zeros(5)
    rows = []
    for gradient, rate in zip(steps.astype(np.float64), rates(), strict=True):
        square_avg = alpha * square_avg + (1 - alpha) * gradient**2
        theta = theta - rate * gradient / (np.sqrt(square_avg) + epsilon)
        rows.append(theta)
    return np.stack(rows)


def rmsprop_like_tensorflow(steps: np.ndarray, epsilon: float) -> np.ndarray:
    """SB3's RMSpropTFLike: squares begin at 1, and epsilon is added under the root."""
    alpha = SETTINGS["rmsprop_decay"]
    theta, square_avg = np.ones(5), np.ones(5)
    rows = []
    for gradient, rate in zip(steps.astype(np.float64), rates(), strict=True):
        square_avg = alpha * square_avg + (1 - alpha) * gradient**2
        theta = theta - rate * gradient / np.sqrt(square_avg + epsilon)
        rows.append(theta)
    return np.stack(rows)


@pytest.mark.parametrize(
    ("literal", "settings"),
    [
        (rmsprop_of_torch, {"rmsprop_epsilon_inside": False}),
        (rmsprop_like_tensorflow, {"rmsprop_initial_square": 1.0}),
    ],
)
@pytest.mark.parametrize("epsilon", [1e-5, 1e-1])
def test_rmsprop_can_be_that_of_other_libraries(
    literal: Callable[[np.ndarray, float], np.ndarray], settings: dict[str, Any], epsilon: float
) -> None:
    steps = gradients()
    expected = literal(steps, epsilon)
    same = found("rmsprop", steps, epsilon=epsilon, **settings)
    np.testing.assert_allclose(same, expected, rtol=1e-4, atol=1e-6)
    usual = found("rmsprop", steps, epsilon=epsilon)
    assert np.abs(usual - expected).max() > 1e-3


LITERAL = {"adam": adam, "rmsprop": rmsprop}
both = pytest.mark.parametrize("kind", LITERAL)


@both
@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
@pytest.mark.parametrize("limit", [math.inf, 0.5, 2.0])
def test_updates_are_those_of_the_paper(kind: str, epsilon: float, limit: float) -> None:
    steps = gradients()
    settings = {"epsilon": epsilon, "max_gradient_norm": limit}
    expected = LITERAL[kind](steps, epsilon, limit)
    np.testing.assert_allclose(found(kind, steps, **settings), expected, rtol=1e-4, atol=1e-6)


def test_the_global_norm_is_clipped() -> None:
    """A small example for RMSProp with epsilon 1: components below the limit are scaled too."""
    steps = np.tile(np.float32([3.0, 4.0, 0.0, 0.0, 0.0]), (UPDATES, 1))
    first = found("rmsprop", steps, max_gradient_norm=1.0, epsilon=1.0)[0]
    clipped = np.array([0.6, 0.8, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(first, 1 - 0.1 * clipped / np.sqrt(0.1 * clipped**2 + 1), rtol=1e-6)


@both
def test_small_gradients_are_not_scaled_up(kind: str) -> None:
    steps = gradients(1e-3)
    np.testing.assert_array_equal(
        found(kind, steps, max_gradient_norm=0.5), found(kind, steps, max_gradient_norm=math.inf)
    )


@both
def test_a_zero_gradient_changes_nothing(kind: str) -> None:
    np.testing.assert_array_equal(found(kind, np.zeros((UPDATES, 3), np.float32)), 1.0)


@both
def test_a_learning_rate_of_0_changes_nothing(kind: str) -> None:
    rows = found(kind, gradients())
    np.testing.assert_array_equal(rows[-1], rows[-2])


@both
def test_the_first_state_is_optaxs_own(kind: Any) -> None:
    initialise, _ = make_optimizer(kind, **SETTINGS)
    own = optax.scale_by_adam() if kind == "adam" else optax.scale_by_rms()
    expected = own.init(np.ones(4, np.float32))
    state = initialise(np.ones(4, np.float32))
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
