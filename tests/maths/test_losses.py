"""The losses: their terms, and the gradients that they must and must not have."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.maths.losses import (
    LossTerms,
    actor_critic_loss,
    clipped_surrogate_loss,
    masked_mean,
    value_loss,
)

SHAPE = (5, 3)
NAMES = ("log_probabilities", "entropies", "values", "advantages", "targets")


def arguments(valid: np.ndarray) -> dict[str, jax.Array]:
    generator = np.random.default_rng(1)
    drawn = {name: jnp.asarray(generator.normal(size=SHAPE), jnp.float32) for name in NAMES}
    return drawn | {"valid": jnp.asarray(valid)}


def some_valid() -> np.ndarray:
    return np.random.default_rng(2).random(SHAPE) < 0.6


def test_each_term_is_a_mean_over_the_valid_steps() -> None:
    valid = some_valid()
    given = arguments(valid)
    policy, value, entropy, count = 0.0, 0.0, 0.0, 0
    for t in range(SHAPE[0]):
        for n in range(SHAPE[1]):
            if not valid[t, n]:
                continue
            count += 1
            policy -= given["log_probabilities"][t, n] * given["advantages"][t, n]
            value += 0.5 * (given["targets"][t, n] - given["values"][t, n]) ** 2
            entropy += given["entropies"][t, n]
    policy, value, entropy = policy / count, value / count, entropy / count
    terms = actor_critic_loss(**given, value_coefficient=0.5, entropy_coefficient=0.01)
    expected = LossTerms(policy + 0.5 * value - 0.01 * entropy, policy, value, entropy)
    np.testing.assert_allclose(terms, expected, rtol=1e-5)


def gradients(valid: np.ndarray) -> dict[str, np.ndarray]:
    moving = arguments(valid)
    mask = moving.pop("valid")

    def total(moving: dict[str, jax.Array]) -> jax.Array:
        return actor_critic_loss(
            **moving, valid=mask, value_coefficient=0.5, entropy_coefficient=0.01
        ).total

    return {name: np.asarray(one) for name, one in jax.grad(total)(moving).items()}


def test_gradients_are_those_of_the_formula() -> None:
    valid = some_valid()
    given, found = arguments(valid), gradients(valid)
    share = valid / valid.sum()
    np.testing.assert_allclose(found["log_probabilities"], -share * given["advantages"], rtol=1e-5)
    errors = given["values"] - given["targets"]
    np.testing.assert_allclose(found["values"], 0.5 * share * errors, rtol=1e-5)
    # Entropy is added to the objective, so a higher entropy must give a lower loss.
    np.testing.assert_allclose(found["entropies"], -0.01 * share, rtol=1e-5)


def test_advantages_and_targets_are_constants() -> None:
    found = gradients(some_valid())
    np.testing.assert_array_equal(found["advantages"], 0.0)
    np.testing.assert_array_equal(found["targets"], 0.0)


def test_no_valid_step_gives_0() -> None:
    nothing = np.zeros(SHAPE, np.bool_)
    terms = actor_critic_loss(**arguments(nothing), value_coefficient=0.5, entropy_coefficient=0.01)
    np.testing.assert_array_equal(terms, 0.0)
    for gradient in gradients(nothing).values():
        np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(
    ("valid", "mean"), [([True, False, True], 3.0), ([False, True, False], 9.0), ([False] * 3, 0.0)]
)
def test_masked_mean(valid: list[bool], mean: float) -> None:
    assert masked_mean(jnp.array([1.0, 9.0, 5.0]), jnp.array(valid)) == mean


@pytest.mark.parametrize("kind", ["squared", "huber"])
@pytest.mark.parametrize("clip_range", [None, 0.3])
def test_the_losses_of_values_are_their_formulas(kind: Any, clip_range: float | None) -> None:
    valid, given = some_valid(), arguments(some_valid())
    values, targets, old = (given[name] for name in ("values", "targets", "advantages"))

    def one(value: float, target: float) -> float:
        error = abs(target - value)
        return error - 0.5 if kind == "huber" and error > 1 else 0.5 * error**2

    terms = []
    for index in zip(*np.nonzero(valid), strict=True):
        value, target, before = float(values[index]), float(targets[index]), float(old[index])
        term = one(value, target)
        if clip_range is not None:
            near = before + min(max(value - before, -clip_range), clip_range)
            term = max(term, one(near, target))
        terms.append(term)
    clipping = () if clip_range is None else (old, clip_range)
    found = value_loss(values, targets, jnp.asarray(valid), kind, *clipping)
    np.testing.assert_allclose(found, np.mean(terms), rtol=1e-5)
    slopes = jax.grad(lambda targets: value_loss(values, targets, jnp.asarray(valid), kind))
    np.testing.assert_array_equal(slopes(targets), 0.0)


# --- PPO ------------------------------------------------------------------------------------------


def surrogate(valid: np.ndarray, **changed: Any) -> Any:
    behaviour = jnp.asarray(np.random.default_rng(3).normal(size=SHAPE), jnp.float32)
    given = arguments(valid) | {"behaviour_log_probabilities": behaviour} | changed
    weights = {"clip_range": 0.2, "value_coefficient": 0.5, "entropy_coefficient": 0.01}
    return given, clipped_surrogate_loss(**given, **weights)


def test_the_clipped_surrogate_is_equation_7() -> None:
    valid = some_valid()
    given, terms = surrogate(valid)
    policy, beyond, divergence = [], [], []
    for index in zip(*np.nonzero(valid), strict=True):
        now, then = (
            np.float64(given[name][index])
            for name in ("log_probabilities", "behaviour_log_probabilities")
        )
        ratio, advantage = np.exp(now - then), np.float64(given["advantages"][index])
        clipped = min(max(ratio, 0.8), 1.2)
        policy.append(-min(ratio * advantage, clipped * advantage))
        beyond.append(ratio < 0.8 or ratio > 1.2)
        divergence.append(ratio - 1 - (now - then))
    plain = actor_critic_loss(**arguments(valid), value_coefficient=0.5, entropy_coefficient=0.01)
    np.testing.assert_allclose(terms.policy, np.mean(policy), rtol=1e-5)
    np.testing.assert_allclose(terms.clip_fraction, np.mean(beyond), rtol=1e-5)
    np.testing.assert_allclose(terms.approximate_kl, np.mean(divergence), rtol=1e-4)
    np.testing.assert_allclose(terms.value, plain.value)
    np.testing.assert_allclose(terms.entropy, plain.entropy)
    total = terms.policy + 0.5 * terms.value - 0.01 * terms.entropy
    np.testing.assert_allclose(terms.total, total, rtol=1e-6)


def test_a_ratio_beyond_the_range_teaches_nothing_more() -> None:
    """Only steps further in the same direction have no gradient; steps back always have one."""

    def policy(now: Any, advantages: Any) -> Any:
        valid, zeros = jnp.ones(4, bool), jnp.zeros(4)
        weights = (0.2, 0.5, 0.0)
        return clipped_surrogate_loss(
            now, zeros, zeros, zeros, advantages, zeros, valid, *weights
        ).policy

    now = jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5]))
    slope = jax.grad(policy)(now, jnp.array([1.0, -1.0, 1.0, -1.0]))
    np.testing.assert_allclose(slope, np.array([0.0, 1.5, -0.5, 0.0]) / 4, atol=1e-6)


def test_at_the_policy_that_acted_it_has_the_gradient_of_a2c() -> None:
    given = arguments(some_valid())
    weights = {"value_coefficient": 0.5, "entropy_coefficient": 0.01}
    moving = given.pop("log_probabilities")

    def a2c(now: Any) -> Any:
        return actor_critic_loss(now, **given, **weights).total

    def ppo(now: Any) -> Any:
        return clipped_surrogate_loss(now, moving, **given, **weights, clip_range=0.2).total

    np.testing.assert_allclose(jax.grad(ppo)(moving), jax.grad(a2c)(moving), rtol=1e-5)


def test_the_action_of_an_invalid_step_can_be_as_improbable_as_it_likes() -> None:
    valid = some_valid()
    far = jnp.where(valid, 0.0, -1e30)
    _, terms = surrogate(valid, behaviour_log_probabilities=far)
    assert np.isfinite(terms).all()
    slope = jax.grad(lambda far: surrogate(valid, behaviour_log_probabilities=far)[1].total)(far)
    assert np.isfinite(slope).all()
