"""Returns and advantages are compared with the papers, and checked at episode boundaries."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.maths.returns import advantage_estimates, corrected_errors, normalize, vtrace

from .literal import (
    generalised_advantages,
    n_step_returns,
    segments,
    v_trace_advantages,
    v_trace_targets,
)

LENGTH = 12
DISCOUNTS = (0.0, 0.9, 0.99, 1.0)
LAMBDAS = (0.0, 0.5, 0.95, 1.0)
estimates = jax.jit(advantage_estimates, static_argnums=(4, 5))
errors = jax.jit(corrected_errors)
correct = jax.jit(vtrace, static_argnums=(5, 6, 7, 8))
normalized = jax.jit(normalize)


class Path(NamedTuple):
    """One trajectory, with the critic's values."""

    values: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray

    def advantages(self, discount: float, gae_lambda: float = 1.0) -> np.ndarray:
        flags = self.terminated, self.valid
        return np.asarray(estimates(self.values, self.rewards, *flags, discount, gae_lambda))

    def targets(self, discount: float, gae_lambda: float = 1.0) -> np.ndarray:
        return self.advantages(discount, gae_lambda) + self.values[:-1]

    @property
    def segments(self) -> list[tuple[int, int, bool]]:
        return segments(self.terminated, self.truncated, self.valid)


def path_of(values: np.ndarray, rewards: np.ndarray, ends: list[str]) -> Path:
    """Make a trajectory with the given episode ends; the step after an end is a reset."""
    terminated, truncated, valid = np.zeros((3, len(ends)), np.bool_)
    ended = False
    for t, end in enumerate(ends):
        valid[t] = not ended
        terminated[t] = valid[t] and end in ("terminated", "both")
        truncated[t] = valid[t] and end in ("truncated", "both")
        ended = bool(terminated[t] or truncated[t])
    rewards = np.where(valid, rewards, 0.0)
    return Path(np.float32(values), rewards.astype(np.float32), terminated, truncated, valid)


def random_path(seed: int) -> Path:
    generator = np.random.default_rng(seed)
    ends = generator.choice(
        ["no", "terminated", "truncated", "both"], LENGTH, p=[0.7, 0.1, 0.1, 0.1]
    )
    values, rewards = generator.normal(size=LENGTH + 1), generator.normal(size=LENGTH)
    return path_of(5 * values, 3 * rewards, list(ends))


numbers = st.floats(-100, 100, width=32)
ends = st.sampled_from(["no", "no", "no", "terminated", "truncated", "both"])
paths = st.builds(
    path_of,
    st.lists(numbers, min_size=LENGTH + 1, max_size=LENGTH + 1).map(np.array),
    st.lists(numbers, min_size=LENGTH, max_size=LENGTH).map(np.array),
    st.lists(ends, min_size=LENGTH, max_size=LENGTH),
)
discounts = st.sampled_from(DISCOUNTS)
lambdas = st.sampled_from(LAMBDAS)


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    scale = max(1.0, float(np.max(np.abs(expected))))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("discount", DISCOUNTS)
@pytest.mark.parametrize("seed", range(5))
def test_lambda_1_is_the_n_step_return_of_algorithm_s3(seed: int, discount: float) -> None:
    path = random_path(seed)
    expected = n_step_returns(path.values, path.rewards, path.segments, discount)
    close(path.targets(discount), expected)


@pytest.mark.parametrize(("discount", "gae_lambda"), [(0.99, 0.95), (0.9, 0.5), (1.0, 0.5)])
@pytest.mark.parametrize("seed", range(5))
def test_advantages_are_the_sum_of_equation_16(
    seed: int, discount: float, gae_lambda: float
) -> None:
    path = random_path(seed)
    expected = generalised_advantages(
        path.values, path.rewards, path.segments, discount, gae_lambda
    )
    close(path.advantages(discount, gae_lambda), expected)


@given(paths, discounts, lambdas)
def test_advantages_are_the_sum_of_equation_16_everywhere(
    path: Path, discount: float, gae_lambda: float
) -> None:
    expected = generalised_advantages(
        path.values, path.rewards, path.segments, discount, gae_lambda
    )
    close(path.advantages(discount, gae_lambda), expected)


def test_lambda_0_is_the_temporal_difference_error() -> None:
    path = path_of(np.arange(4.0), np.ones(3), ["no"] * 3)
    close(path.advantages(0.5, 0.0), np.array([1.5, 1.0, 0.5]))


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (2.0, 0.5), (1.0, 0.9)])
@pytest.mark.parametrize("seed", range(5))
def test_errors_are_those_of_v_trace(seed: int, rho_bar: float, c_bar: float) -> None:
    path = random_path(seed)
    ratios = np.random.default_rng(seed + 100).lognormal(size=LENGTH)
    discount = 0.97
    expected = v_trace_targets(
        path.values, path.rewards, path.segments, discount, ratios, rho_bar, c_bar
    )
    # A truncated segment's sum ends at its last step, because an invalid step follows.
    rhos = np.where(path.valid, np.minimum(rho_bar, ratios), 0.0).astype(np.float32)
    cs = np.where(path.valid, np.minimum(c_bar, ratios), 0.0).astype(np.float32)
    discounts = np.where(path.terminated, 0.0, discount).astype(np.float32)
    close(errors(path.values, path.rewards, discounts, rhos, cs) + path.values[:-1], expected)


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (2.0, 0.5), (1.0, 0.9)])
@pytest.mark.parametrize("seed", range(5))
def test_vtrace_is_that_of_the_paper(seed: int, rho_bar: float, c_bar: float) -> None:
    path = random_path(seed)
    ratios = np.random.default_rng(seed + 100).lognormal(size=LENGTH)
    flags = path.terminated, path.valid
    logs = np.log(ratios).astype(np.float32)
    found = correct(path.values, path.rewards, *flags, logs, 0.97, 1.0, rho_bar, c_bar)
    given = path.values, path.rewards, path.segments, 0.97
    targets = v_trace_targets(*given, ratios, rho_bar, c_bar)
    close(found.targets, targets)
    close(found.advantages, v_trace_advantages(*given, targets))
    close(found.weights, np.where(path.valid, np.minimum(rho_bar, ratios), 0.0))


@given(paths, discounts)
def test_vtrace_of_the_policy_that_acted_gives_n_step_returns(path: Path, discount: float) -> None:
    flags = path.terminated, path.valid
    logs = np.zeros(LENGTH, np.float32)
    found = correct(path.values, path.rewards, *flags, logs, discount, 1.0, 1.0, 1.0)
    close(found.targets, path.targets(discount))
    close(found.advantages, path.advantages(discount))


def test_vtrace_clips_ratios_that_overflow() -> None:
    path = path_of(np.ones(4), np.ones(3), ["no"] * 3)
    logs = np.float32([1e4, -1e4, 0.0])
    found = correct(path.values, path.rewards, path.terminated, path.valid, logs, 0.9, 1.0, 1, 1)
    close(found.weights, np.array([1.0, 0.0, 1.0]))


def test_a_truncation_bootstraps_from_its_own_successor() -> None:
    """The design's example: not 99.02 (uses the next episode), nor 1.99 (treats it as terminal)."""
    values = np.full(5, 100.0)
    path = path_of(values, np.ones(4), ["no", "truncated", "no", "no"])
    assert path.valid.tolist() == [True, True, False, True]
    np.testing.assert_allclose(path.targets(0.99), 100.0, rtol=1e-6)
    np.testing.assert_allclose(path.targets(0.99, 0.5), 100.0, rtol=1e-6)


def test_a_termination_is_worth_its_rewards_alone() -> None:
    path = path_of(np.full(5, 100.0), np.ones(4), ["no", "terminated", "no", "no"])
    np.testing.assert_allclose(path.targets(0.99), [1.99, 1.0, 100.0, 100.0], rtol=1e-5)


def test_terminated_and_truncated_at_once_is_terminated() -> None:
    path = path_of(np.full(3, 100.0), np.ones(2), ["both", "no"])
    np.testing.assert_allclose(path.targets(0.99), [1.0, 100.0], rtol=1e-6)


@given(paths, discounts, lambdas, st.integers(0, 2**32 - 1))
def test_what_follows_an_end_never_changes_what_was_before(
    path: Path, discount: float, gae_lambda: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    before = path.targets(discount, gae_lambda)
    for end in np.flatnonzero(path.terminated | path.truncated):
        values, rewards = path.values.copy(), path.rewards.copy()
        after_end = end + 1 if path.terminated[end] else end + 2
        values[after_end:] = 1e3 * generator.normal(size=len(values[after_end:]))
        rewards[end + 1 :] = 1e3 * generator.normal(size=len(rewards[end + 1 :]))
        terminated = path.terminated.copy()
        terminated[end + 2 :] = generator.random(len(terminated[end + 2 :])) < 0.5
        changed = path._replace(values=values, rewards=rewards, terminated=terminated)
        after = changed.targets(discount, gae_lambda)
        np.testing.assert_array_equal(after[: end + 1], before[: end + 1])


@given(paths, discounts, lambdas, numbers)
def test_an_invalid_step_has_its_own_value_as_target(
    path: Path, discount: float, gae_lambda: float, reward: float
) -> None:
    rewards = np.where(path.valid, path.rewards, np.float32(reward))
    advantages = path._replace(rewards=rewards).advantages(discount, gae_lambda)
    np.testing.assert_array_equal(advantages[~path.valid], 0.0)


def test_normalized_advantages_have_mean_0_and_variance_1() -> None:
    generator = np.random.default_rng(0)
    advantages = (50 + 7 * generator.normal(size=(6, 5))).astype(np.float32)
    valid = generator.random((6, 5)) < 0.7
    result = np.asarray(normalized(advantages, valid))
    chosen = advantages[valid].astype(np.float64)
    close(result[valid], (chosen - chosen.mean()) / chosen.std())
    np.testing.assert_array_equal(result[~valid], 0.0)


@pytest.mark.parametrize("valid", [[True, True, True], [False, True, False], [False] * 3])
def test_equal_few_and_no_advantages_normalize_to_0(valid: list[bool]) -> None:
    result = normalized(np.full(3, 7.0, np.float32), np.array(valid))
    np.testing.assert_array_equal(result, 0.0)
