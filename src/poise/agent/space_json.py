"""Converting Gymnasium spaces to JSON and back, for policy files.

Only data is read: no class is looked up by a name in the file.
"""

import collections
import math
from typing import Any

import numpy as np
from gymnasium import spaces

from poise.errors import FileFormatError, UnsupportedSpaceError

__all__ = ["space_from_json", "space_to_json"]

MAX_ELEMENTS = 1 << 21
"""Most elements that a file may declare for all arrays together."""
MAX_DEPTH = 16


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describe a space with JSON types.

    Raises:
        UnsupportedSpaceError: poise does not support the space.
    """
    match space:
        case spaces.Box():
            return {
                "space": "Box",
                "low": _bounds_to_json(space.low),
                "high": _bounds_to_json(space.high),
                "shape": list(space.shape),
                "dtype": str(space.dtype),
            }
        case spaces.Discrete():
            return {"space": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {
                "space": "MultiDiscrete",
                "nvec": space.nvec.tolist(),
                "start": space.start.tolist(),
                "dtype": str(space.dtype),
            }
        case spaces.MultiBinary():
            size = space.n if isinstance(space.n, int) else [int(one) for one in space.shape]
            return {"space": "MultiBinary", "n": size}
        case spaces.Tuple():
            return {"space": "Tuple", "spaces": [space_to_json(part) for part in space]}
        case spaces.Dict():
            parts = [[_key_to_json(key), space_to_json(part)] for key, part in space.spaces.items()]
            return {"space": "Dict", "spaces": parts}
    raise UnsupportedSpaceError(f"the space {space} cannot be written to a file")


def space_from_json(description: Any, depth: int = 0) -> spaces.Space[Any]:
    """Rebuild a space from the result of `space_to_json`.

    Raises:
        FileFormatError: the description is not a valid space.
    """
    if depth > MAX_DEPTH:
        raise FileFormatError("the description of a space is nested too deeply")
    try:
        if depth == 0 and _elements(description, 0) > MAX_ELEMENTS:
            raise ValueError("too many elements")
        return _from_json(description, depth)
    except (KeyError, TypeError, ValueError, AssertionError, OverflowError) as error:
        raise FileFormatError(f"the description of a space is damaged: {error!r}") from error


def _from_json(description: Any, depth: int) -> spaces.Space[Any]:
    match description["space"]:
        case "Box":
            shape = _shape(description["shape"])
            dtype = np.dtype(str(description["dtype"]))
            if dtype.kind not in "fiub":
                raise ValueError(f"dtype {dtype}")
            low = _bounds_from_json(description["low"], shape, dtype)
            high = _bounds_from_json(description["high"], shape, dtype)
            return spaces.Box(low, high, shape, dtype.type)
        case "Discrete":
            return spaces.Discrete(int(description["n"]), start=int(description["start"]))
        case "MultiDiscrete":
            nvec = np.asarray(description["nvec"], np.int64)
            start = np.asarray(description["start"], np.int64)
            if nvec.size > MAX_ELEMENTS or not 0 < int(nvec.sum()) <= MAX_ELEMENTS:
                raise ValueError("too many categories")
            dtype = np.dtype(str(description["dtype"]))
            if dtype.kind not in "iu":
                raise ValueError(f"dtype {dtype}")
            return spaces.MultiDiscrete(nvec, dtype.type, start=start)
        case "MultiBinary":
            size = description["n"]
            return spaces.MultiBinary(_shape([size])[0] if isinstance(size, int) else _shape(size))
        case "Tuple":
            return spaces.Tuple([space_from_json(one, depth + 1) for one in description["spaces"]])
        case "Dict":
            parts = description["spaces"]
            pairs = [(_key_from_json(key), space_from_json(one, depth + 1)) for key, one in parts]
            # An OrderedDict, because Gymnasium sorts the keys of any other mapping.
            return spaces.Dict(collections.OrderedDict(pairs))
    raise ValueError(f"unknown space {description['space']!r}")


def _elements(description: Any, depth: int) -> int:
    """Count the elements of a space's arrays, before any array is made."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    match description["space"]:
        case "Box":
            return math.prod(_shape(description["shape"]))
        case "MultiBinary":
            size = description["n"]
            return math.prod(_shape([size] if isinstance(size, int) else size))
        case "Tuple":
            return sum(_elements(one, depth + 1) for one in description["spaces"])
        case "Dict":
            return sum(_elements(one, depth + 1) for _, one in description["spaces"])
    return 0


def _key_to_json(key: Any) -> Any:
    """Convert a key of a Dict: a string, a number, None, or a tuple of these (in JSON a list)."""
    if isinstance(key, tuple):
        return [_key_to_json(one) for one in key]
    plain = key.item() if isinstance(key, np.generic) else key
    if isinstance(plain, float) and not math.isfinite(plain):
        plain = object()
    if not isinstance(plain, str | int | float | None):
        raise UnsupportedSpaceError(
            f"the key {key!r} of a Dict space cannot be written to a file: use strings as keys"
        )
    return plain


def _key_from_json(key: Any, depth: int = 0) -> Any:
    if isinstance(key, list) and depth < MAX_DEPTH:
        return tuple(_key_from_json(one, depth + 1) for one in key)
    if not isinstance(key, str | int | float | None) or key in (math.inf, -math.inf) or key != key:
        raise ValueError(f"key {key!r}")
    return key


def _shape(numbers: Any) -> tuple[int, ...]:
    shape = tuple(int(number) for number in numbers)
    if any(number < 0 for number in shape) or math.prod(shape) > MAX_ELEMENTS or len(shape) > 32:
        raise ValueError(f"shape {shape}")
    return shape


def _bounds_to_json(bounds: np.ndarray) -> Any:
    """Return one number if all bounds are equal, else a flat list; infinity becomes a string."""
    flat = bounds.reshape(-1)
    if flat.size and np.all(flat == flat[0]):
        return _number_to_json(flat[0])
    return [_number_to_json(number) for number in flat]


def _number_to_json(number: Any) -> Any:
    value = number.item()
    return value if math.isfinite(value) else str(value)


def _bounds_from_json(
    bounds: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> np.ndarray[Any, np.dtype[Any]]:
    many = isinstance(bounds, list)
    numbers = [_number_from_json(one) for one in (bounds if many else [bounds])]
    with np.errstate(over="ignore"):
        array = np.array(numbers, dtype)
    if not np.array_equal(np.isinf(array), np.isinf(np.array(numbers, np.float64))):
        raise ValueError(f"a bound does not fit {dtype}")
    return array.reshape(shape) if many else np.full(shape, array[0], dtype)


def _number_from_json(number: Any) -> float | int:
    if isinstance(number, str) and number in ("inf", "-inf"):
        return float(number)
    if isinstance(number, bool) or not isinstance(number, int | float):
        if isinstance(number, bool):
            return int(number)
        raise ValueError(f"bound {number!r}")
    return number
