"""Encoders agree with Gymnasium's ``flatten``."""

from typing import Any

import jax
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.encoders import encode, feature_count, require_encodable
from poise.argument_names import as_flags
from poise.batching import stack
from poise.errors import UnsupportedSpaceError

from .examples import BYTES, OBSERVATION_SPACES, UNSUPPORTED

COPIES = 6

every_space = pytest.mark.parametrize(
    "space", OBSERVATION_SPACES.values(), ids=OBSERVATION_SPACES.keys()
)


def samples(space: spaces.Space[Any], count: int = COPIES) -> list[Any]:
    space.seed(5)
    return [space.sample() for _ in range(count)]


def batch(space: spaces.Space[Any], observations: list[Any]) -> Any:
    return stack(space, observations)


@every_space
def test_encoding_is_gymnasiums_flattening(space: spaces.Space[Any]) -> None:
    observations = samples(space)
    encoded = encode(space, batch(space, observations))
    assert encoded.shape == (COPIES, feature_count(space))
    assert encoded.dtype == np.float32
    for row, observation in zip(encoded, observations, strict=True):
        expected = spaces.flatten(space, observation).astype(np.float32)
        np.testing.assert_array_equal(row, expected)


# Without "large integers": by default JAX has no 64-bit integers.
@pytest.mark.parametrize("name", sorted(OBSERVATION_SPACES.keys() - {"large integers"}))
def test_jax_agrees_with_numpy(name: str) -> None:
    space = OBSERVATION_SPACES[name]
    observations = batch(space, samples(space))
    narrow = jax.tree.map(_as_jax_has_it, observations)
    encoded = jax.jit(jax.vmap(lambda one: encode(space, one)))(narrow)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded, encode(space, observations), rtol=1e-6)


def _as_jax_has_it(leaf: np.ndarray) -> np.ndarray:
    narrow = {"int64": np.int32, "float64": np.float32}.get(leaf.dtype.name, leaf.dtype)
    return leaf.astype(narrow)


@every_space
def test_leading_axes_are_kept(space: spaces.Space[Any]) -> None:
    flat = batch(space, samples(space))
    folded = jax.tree.map(lambda leaf: leaf.reshape((2, 3, *leaf.shape[1:])), flat)
    expected = encode(space, flat).reshape((2, 3, feature_count(space)))
    np.testing.assert_array_equal(encode(space, folded), expected)


@pytest.mark.parametrize("space", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_other_spaces_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="which poise cannot learn from"):
        feature_count(space)


def test_encoding_other_spaces_is_refused() -> None:
    with pytest.raises(UnsupportedSpaceError, match="which poise cannot learn from"):
        encode(spaces.Text(5), np.zeros(3))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Dict({"v": BYTES, "mission": spaces.Text(20)}),
            r"^observation\['mission'\] is Text.*ignore_observations=\['mission'\], or",
        ),
        (
            spaces.Dict({"a": spaces.Tuple([BYTES, spaces.Sequence(spaces.Discrete(2))])}),
            r"^observation\['a'\]\[1\] is Sequence.*ignore_observations=\[\"\['a'\]\[1\]",
        ),
        (
            spaces.Dict({"a": spaces.Text(2), "b": spaces.Text(3), "v": BYTES}),
            r"^observation\['a'\] is Text.*ignore_observations=\['a', 'b'\], or convert",
        ),
        (
            spaces.Graph(spaces.Discrete(2), None),
            r"^observation is Graph.*these: convert it to numbers",
        ),
    ],
)
def test_the_unsupported_part_is_named(space: spaces.Space[Any], message: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        require_encodable(space)


def test_on_the_command_line_the_parts_are_named_as_they_are_typed() -> None:
    space = spaces.Dict({"a b": spaces.Text(2), "v": BYTES})
    with as_flags(), pytest.raises(UnsupportedSpaceError, match="--ignore-observations 'a b', or"):
        require_encodable(space)
