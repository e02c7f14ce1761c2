"""Products whose rows do not depend on each other, to the last bit."""

import jax.numpy as jnp
import numpy as np
import pytest

from poise.maths.namespace import row_product


@pytest.mark.parametrize("inputs", [1, 3, 8, 17, 64, 100, 300])
@pytest.mark.parametrize("outputs", [1, 2, 64, 100])
def test_a_row_does_not_depend_on_the_others(inputs: int, outputs: int) -> None:
    generator = np.random.default_rng(inputs * outputs)
    weight = generator.standard_normal((inputs, outputs)).astype(np.float32)
    x = generator.standard_normal((33, inputs)).astype(np.float32)
    product = row_product(x, weight)
    np.testing.assert_allclose(product, x @ weight, rtol=1e-4, atol=1e-4)
    for rows in (slice(0, 1), slice(5, 13), slice(1, 33), slice(None, None, -1)):
        assert row_product(x[rows], weight).tobytes() == product[rows].tobytes()


def test_other_shapes_and_arrays() -> None:
    weight = np.ones((3, 2), np.float32)
    assert row_product(np.ones(3, np.float32), weight).tolist() == [3.0, 3.0]
    assert row_product(np.ones((2, 4, 3), np.float32), weight).shape == (2, 4, 2)
    assert row_product(np.ones((0, 3), np.float32), weight).shape == (0, 2)
    assert isinstance(row_product(jnp.ones((4, 3)), jnp.asarray(weight)), jnp.ndarray)
