"""Arguments of environments, written as text and read back."""

import ast
import enum
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.config import TrainConfig
from poise.errors import ConfigError
from poise.literals import keyword_texts

# Hypothesis takes seconds to list all characters.
TEXT = st.text("".join(map(chr, range(0x250))) + "\u2028\u202e\u2603\ufeff\U0001f600")
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT, st.binary()
)
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.lists(inside, max_size=3).map(tuple),
        st.dictionaries(SCALARS, inside, max_size=3),
        st.sets(SCALARS, max_size=3),
    ),
    max_leaves=8,
)


class Colour(enum.IntEnum):
    RED = 1


@given(VALUES)
def test_values_are_read_back_unchanged(value: Any) -> None:
    [text] = keyword_texts({"a": value})
    key, _, literal = text.partition("=")
    found = ast.literal_eval(literal)
    assert key == "a"
    assert found == value
    assert type(found) is type(value)


def ring() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"a": object()}, "a value of type object"),
        ({"a": [1, {"b": print}]}, "a value of type builtin_function_or_method"),
        ({"a": math.nan}, "NaN"),
        ({"a": np.zeros(2)}, "a value of type ndarray"),
        ({"a": Colour.RED}, "a value of type Colour"),
        ({"a": ring()}, "nested lists or dicts"),
        ({"a": 10**5000}, "thousands of digits"),
        ({"a b": 1}, "not a valid argument name"),
        ({5: 1}, "not a valid argument name"),
    ],
)
def test_values_that_no_file_can_hold_are_refused(arguments: dict[Any, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^env_kwargs has .*{said}"):
        keyword_texts(arguments)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"g": 5.0}, ("g=5.0",)),
        ({"g": np.float64(5.0), "n": np.int32(2)}, ("g=5.0", "n=2")),
        ({"g": -math.inf}, ("g=-1e999",)),
        ({}, ()),
        (("g=5.0",), ("g=5.0",)),
        (["g=5.0"], ("g=5.0",)),
        ("g=5.0", ("g=5.0",)),
    ],
)
def test_the_settings_take_a_dict(given: Any, kept: tuple[str, ...]) -> None:
    assert TrainConfig(env_kwargs=given).env_kwargs == kept


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"max_steps": 1e4}, 10_000),
        ({"max_steps": np.int64(7)}, 7),
        ({"seed": np.float32(3.0)}, 3),
        ({"hidden_sizes": 64}, (64,)),
        ({"hidden_sizes": 64.0}, (64,)),
        ({"hidden_sizes": [64, np.int64(32)]}, (64, 32)),
        ({"wrappers": "module:Wrapper"}, ("module:Wrapper",)),
        ({"ignore_observations": "mission"}, ("mission",)),
        ({"learning_rate": np.float32(0.5)}, 0.5),
        ({"learning_rate": 1}, 1.0),
    ],
)
def test_settings_in_every_usual_type(settings: dict[str, Any], kept: Any) -> None:
    [name] = settings
    found = getattr(TrainConfig(**settings), name)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("max_steps", one) for one in (1.5, math.inf, math.nan, True, "5", 1e300, [5])],
        *[("hidden_sizes", one) for one in (1.5, [64, 1.5], True, "64", [[64]], None)],
        *[("wrappers", one) for one in (5, [5], {"a": 1})],
        *[("env_kwargs", one) for one in (5, [5])],
        *[("learning_rate", one) for one in (True, "a", math.nan, [1.0])],
    ],
)
def test_other_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is "):
        TrainConfig(**{name: value})
