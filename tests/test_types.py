"""Types and shapes are checked while tests run, in packages with and without shapes."""

import jax.numpy as jnp
import jaxtyping
import pytest

from poise.envs.watchdog import Watchdog
from poise.launchers.supervision import Heartbeats
from poise.maths.returns import corrected_errors


def test_a_wrong_type_is_found_without_shapes() -> None:
    heartbeats = Heartbeats()
    with pytest.raises(TypeError, match="who"):
        heartbeats.beat("worker 0")  # type: ignore[arg-type]
    # PEP 484: an int is accepted as a float.
    heartbeats.beat(0, 1)
    with pytest.raises(TypeError, match="interval"):
        Watchdog(lambda: None, "soon")  # type: ignore[arg-type]


def test_shapes_are_checked_for_consistency() -> None:
    values, steps = jnp.zeros(4), jnp.zeros(3)
    assert corrected_errors(values, steps, steps, steps, steps).shape == (3,)
    with pytest.raises(jaxtyping.TypeCheckError, match="rewards"):
        corrected_errors(values, jnp.zeros(4), steps, steps, steps)
