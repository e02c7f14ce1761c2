"""Values as Python literals: how arguments of an environment's constructor are kept in files.

A file must not hold code, so a value is kept as the text that `ast.literal_eval` reads back.
"""

import math
from collections.abc import Mapping
from typing import Any

from poise.errors import ConfigError

__all__ = ["keyword_texts"]

MAX_DEPTH = 64
"""Of lists in lists: deeper ones may be rings."""
_SCALARS = (bool, int, str, bytes, complex, type(None))


def keyword_texts(arguments: Mapping[Any, Any]) -> tuple[str, ...]:
    """Keyword arguments as ``key=value`` texts.

    Args:
        arguments: value by name; numbers, texts, None, and tuples, lists, sets and dicts of these.
            NumPy's numbers become Python's.

    Raises:
        ConfigError: a name is none, or a value cannot be written as a literal.
    """
    texts = []
    for key, value in arguments.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise ConfigError(f"--env-kwargs has the key {key!r}, which is no name of an argument")
        try:
            texts.append(f"{key}={_literal(value)}")
        except _NoLiteralError as error:
            raise ConfigError(
                f"--env-kwargs has {key}, whose value holds {error}, but values are written into "
                "files as Python literals (numbers, texts, lists, dicts): give a function that "
                "makes the environment instead"
            ) from None
    return tuple(texts)


class _NoLiteralError(Exception):
    """Says what there is no literal for."""


def _literal(value: Any, depth: int = 0) -> str:
    if depth > MAX_DEPTH:
        raise _NoLiteralError(f"more than {MAX_DEPTH} lists or dicts in one another")
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
        # A number of NumPy's, or of JAX's.
        return _literal(value.item(), depth + 1)
    raise _NoLiteralError(f"a value of the type {type(value).__name__}")


def _float(value: float) -> str:
    if math.isnan(value):
        raise _NoLiteralError("NaN")
    if math.isinf(value):
        # There is no literal for it, but one that overflows.
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def _written(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:
        # Python does not write out integers of thousands of digits.
        raise _NoLiteralError("a number of thousands of digits") from None
