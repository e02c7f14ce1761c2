"""Spaces are converted to JSON and back, and invalid descriptions are refused."""

import collections
import json
import math
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.space_json import MAX_DEPTH, space_from_json, space_to_json
from poise.errors import FileFormatError, UnsupportedSpaceError

from .examples import BYTES, OBSERVATION_SPACES, UNSUPPORTED

SPACES = OBSERVATION_SPACES | {"bytes": BYTES, "empty tuple": spaces.Tuple([])}


def through_json(space: spaces.Space[Any]) -> spaces.Space[Any]:
    return space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))


@pytest.mark.parametrize(
    "space",
    [pytest.param(space, id=name) for name, space in SPACES.items()],
)
def test_a_space_survives(space: spaces.Space[Any]) -> None:
    again = through_json(space)
    assert again == space
    assert again.dtype == space.dtype
    assert again.shape == space.shape


def test_the_order_of_a_dict_survives() -> None:
    ordered = [("b", spaces.Discrete(2)), ("a", spaces.Discrete(3))]
    space = spaces.Dict(collections.OrderedDict(ordered))
    again = through_json(space)
    assert isinstance(again, spaces.Dict)
    assert list(again.spaces) == list(space.spaces) == ["b", "a"]


def test_keys_of_a_dict_are_kept_or_refused() -> None:
    keys = [1, "1", "a", (0, "y"), ((2,), None), True, np.int64(7), 0.5, ""]
    parts = {key: spaces.Discrete(index + 2) for index, key in enumerate(keys)}
    space = spaces.Dict(collections.OrderedDict(parts))  # type: ignore[arg-type]
    assert through_json(space) == space
    for key in (object(), frozenset(), b"x", float("inf"), float("nan"), (1, object())):
        odd = spaces.Dict(collections.OrderedDict({key: spaces.Discrete(2)}))  # type: ignore[arg-type]
        with pytest.raises(UnsupportedSpaceError, match="use strings as keys"):
            space_to_json(odd)


@pytest.mark.parametrize("key", [{"a": 1}, math.inf, math.nan, [[math.nan]], [[[]] * 2, {}]])
def test_invalid_keys_are_refused(key: Any) -> None:
    part = {"space": "Discrete", "n": 2, "start": 0}
    with pytest.raises(FileFormatError):
        space_from_json({"space": "Dict", "spaces": [[key, part]]})


@pytest.mark.parametrize("space", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_other_spaces_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError):
        space_to_json(space)


BOX = {"space": "Box", "low": -1.0, "high": 1.0, "shape": [2], "dtype": "float32"}
MULTI = {"space": "MultiDiscrete", "nvec": [2, 3], "start": [0, 0], "dtype": "int64"}
DAMAGED: list[Any] = [
    None,
    3,
    [],
    {},
    "Discrete",
    {"space": "Text", "max_length": 3},
    {"space": ["Box"]},
    BOX | {"low": "nan"},
    BOX | {"low": None},
    BOX | {"low": 2},
    BOX | {"low": [1, 2, 3]},
    BOX | {"low": 10**400},
    BOX | {"shape": 5},
    BOX | {"shape": [-1]},
    BOX | {"shape": ["x"]},
    BOX | {"shape": [10**30]},
    BOX | {"shape": [4096, 4097]},
    BOX | {"shape": [1] * 40},
    BOX | {"dtype": "float8"},
    BOX | {"dtype": "O"},
    BOX | {"dtype": "f8,f4"},
    BOX | {"dtype": "int8", "low": 300, "high": 400},
    BOX | {"dtype": "uint8"},
    {"space": "Discrete", "n": 3},
    {"space": "Discrete", "n": 0, "start": 0},
    {"space": "Discrete", "n": 10**30, "start": 0},
    {"space": "Discrete", "n": "many", "start": 0},
    {"space": "Discrete", "n": 3, "start": 10**30},
    MULTI | {"nvec": [0, 3]},
    MULTI | {"nvec": [2, [3]]},
    MULTI | {"nvec": [2**40, 3]},
    MULTI | {"start": [0]},
    MULTI | {"dtype": "float32"},
    {"space": "MultiBinary", "shape": [0]},
    {"space": "MultiBinary", "shape": [2**40]},
    {"space": "Tuple", "spaces": 3},
    {"space": "Tuple", "spaces": [BOX, None]},
    {"space": "Dict", "spaces": [["a"]]},
    {"space": "Dict", "spaces": {"a": BOX}},
]


@pytest.mark.parametrize("description", DAMAGED, ids=str)
def test_damage_is_refused(description: Any) -> None:
    with pytest.raises(FileFormatError):
        space_from_json(description)


@pytest.mark.parametrize("bound", ["low", "high"])
def test_bounds_beyond_the_dtype_are_refused(bound: str) -> None:
    number = 1e300 if bound == "high" else -1e300
    with pytest.raises(FileFormatError):
        space_from_json(BOX | {bound: number})


def test_depth_is_limited() -> None:
    def nested(depth: int) -> dict[str, Any]:
        description: dict[str, Any] = {"space": "Discrete", "n": 2, "start": 0}
        for _ in range(depth):
            description = {"space": "Tuple", "spaces": [description]}
        return description

    space_from_json(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 500):
        with pytest.raises(FileFormatError, match="too deeply"):
            space_from_json(nested(depth))
