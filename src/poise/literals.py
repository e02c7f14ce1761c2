"""Python literals: how files store the arguments of an environment's constructor.

A file must not contain code, so a value is stored as text that `ast.literal_eval` can read.
"""

import math
from collections.abc import Mapping
from typing import Any

from poise.errors import ConfigError

__all__ = ["keyword_texts"]

MAX_DEPTH = 64
"""Maximum nesting depth: a container that contains itself would never end."""
_SCALARS = (bool, int, str, bytes, complex, type(None))


def keyword_texts(arguments: Mapping[Any, Any]) -> tuple[str, ...]:
    """Write keyword arguments as ``key=value`` strings.

    Args:
        arguments: values by name: numbers, strings, None, and tuples, lists, sets and dicts of
            these. NumPy numbers become Python numbers.

    Raises:
        ConfigError: a key is not a valid argument name, or a value cannot be written as a literal.
    """
    texts = []
    for key, value in arguments.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise ConfigError(
                f"--env-kwargs has the key {key!r}, which is not a valid argument name"
            )
        try:
            texts.append(f"{key}={_literal(value)}")
        except _NoLiteralError as error:
            raise ConfigError(
                f"--env-kwargs has {key}, whose value contains {error}, but files store values as "
                "Python literals (numbers, strings, lists, dicts): pass a function that makes the "
                "environment instead"
            ) from None
    return tuple(texts)


class _NoLiteralError(Exception):
    """Names a value that has no literal."""


def _literal(value: Any, depth: int = 0) -> str:
    if depth > MAX_DEPTH:
        raise _NoLiteralError(f"more than {MAX_DEPTH} nested lists or dicts")
    if type(value) is float:
        return _float(value)
    if type(value) in _SCALARS:
        return _written(value)
    if type(value) is dict:
        pairs = value.items()
        inside = [f"{_literal(key, depth + 1)}: {_literal(one, depth + 1)}" for key, one in pairs]
        return "{" + ", ".join(inside) + "}"
    if type(value) in (list, tuple, set):
        inside = [_literal(one, depth + 1) for one in value]
        if type(value) is list:
            return "[" + ", ".join(inside) + "]"
        if type(value) is set:
            return "{" + ", ".join(inside) + "}" if inside else "set()"
        return "(" + ", ".join(inside) + ("," if len(inside) == 1 else "") + ")"
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        # A NumPy or JAX scalar.
        return _literal(value.item(), depth + 1)
    raise _NoLiteralError(f"a value of type {type(value).__name__}")


def _float(value: float) -> str:
    if math.isnan(value):
        raise _NoLiteralError("NaN")
    if math.isinf(value):
        # There is no literal for infinity, but a number that overflows reads as infinity.
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def _written(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:
        # Python refuses to convert integers with thousands of digits to text.
        raise _NoLiteralError("a number with thousands of digits") from None
