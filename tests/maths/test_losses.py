"""The actor-critic loss is held against its sum, and against what it must and must not move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.maths.losses import LossTerms, actor_critic_loss, masked_mean

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
    # Entropy is added to the objective: more of it must lower the loss.
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
