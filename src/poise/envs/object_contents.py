"""Reading an object's contents without running any of its code (property, ``__getattr__``).

All access uses the interpreter's own descriptors, and `type` instead of `isinstance`, which would
read the object's ``__class__``.
"""

import array
import ctypes
import functools
import itertools
import mmap
import random
import types
import zlib
from collections import deque
from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np

__all__ = [
    "RANDOM_STATE",
    "attributes",
    "bases",
    "content",
    "differ",
    "is_generator",
    "items",
    "namespace",
]

MOST_ITEMS = 10_000
"""Most items of a container that are compared."""
MOST_INNER_ITEMS = 100
"""Most items of a container inside a container; such containers are also compared on their own."""
MOST_BYTES = 1 << 24
"""Most bytes of an array that are compared."""
DEPTH = 3
"""Depth to which plain containers are compared by content; deeper ones by identity."""

RANDOM_STATE = object()
"""Stands for the content of a random number generator, whose position does not count as state."""

_ATOMS = {int, bool, str, bytes, complex, type(None)}
_GENERATORS = (
    np.random.Generator,
    np.random.RandomState,
    np.random.BitGenerator,
    np.random.SeedSequence,
    random.Random,
)
_BUFFERS = (
    bytearray,
    array.array,
    mmap.mmap,
    memoryview,
    ctypes.Array,
    ctypes.Structure,
    ctypes._SimpleCData,
)
_RANDOM_ATTRIBUTES = {"_np_random", "_np_random_seed"}
"""Attributes of a space that change when it is sampled."""
_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def bases(kind: type) -> tuple[type, ...]:
    """Return a class and its base classes, in method resolution order."""
    found: tuple[type, ...] = _mro(kind)
    return found


def namespace(kind: type) -> Any:
    """Return a class's own ``__dict__``."""
    return _namespace(kind)


def _is_one_of(value: Any, kinds: Iterable[type]) -> bool:
    found = bases(type(value))
    return any(kind in found for kind in kinds)


def is_generator(value: Any) -> bool:
    """Return whether an object is a random number generator."""
    return _is_one_of(value, _GENERATORS)


def attributes(value: Any) -> dict[str, Any]:
    """Return the instance attributes of an object, from its ``__dict__`` and ``__slots__``."""
    found: dict[str, Any] = {}
    kind: Any = type(value)
    for name, member in _attribute_descriptors(kind):
        try:
            held = member.__get__(value)
        except AttributeError:
            continue
        if name != "__dict__":
            found.setdefault(name, held)
        elif type(held) is dict:
            found.update(held)
    if gymnasium.Space in bases(kind):
        return {name: one for name, one in found.items() if name not in _RANDOM_ATTRIBUTES}
    return found


@functools.lru_cache(maxsize=1024)
def _attribute_descriptors(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Return the interpreter's descriptors of a class's ``__slots__`` and ``__dict__``, by name."""
    return tuple(
        (name, member)
        for one in bases(kind)
        for name, member in list(namespace(one).items())
        if (type(member) is types.MemberDescriptorType and one.__module__ != "builtins")
        or (name == "__dict__" and type(member) is types.GetSetDescriptorType)
    )


def items(value: Any, most: int = MOST_ITEMS) -> list[Any] | None:
    """Return a container's items, or a sample if there are too many; None if not a container."""
    kinds = bases(type(value))
    if dict in kinds:
        pairs = itertools.islice(list(dict.items(value)), most)
        return [one for pair in pairs for one in pair]
    for kind in (*_SEQUENCES, *_SETS):
        if kind in kinds:
            every = list(kind.__iter__(value))
            return every[:: 1 + len(every) // most]
    if np.ndarray in kinds and np.ndarray.dtype.__get__(value).hasobject:
        return list(itertools.islice(np.ndarray.ravel(value).tolist(), most))
    return None


class _Same:
    """Compares an object by identity; holds a reference, so that its id is not reused."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def content(value: Any, depth: int = DEPTH) -> Any:
    """Return a copy of an object's content, to compare with a later one by `differ`."""
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind is float:
        return kind, value.hex()
    if is_generator(value):
        return RANDOM_STATE
    kinds = bases(kind)
    if np.generic in kinds:
        return kind, np.generic.tobytes(value)
    if np.ndarray in kinds:
        return _array(value)
    if any(one in kinds for one in _BUFFERS):
        return _buffer(value)
    if kind is itertools.count:
        return kind, repr(value)
    most = MOST_ITEMS if depth == DEPTH else MOST_INNER_ITEMS
    if depth > 0 and dict in kinds:
        pairs = itertools.islice(list(dict.items(value)), most)
        return {_key(key): content(one, depth - 1) for key, one in pairs}
    if depth > 0 and any(one in kinds for one in _SEQUENCES):
        found = items(value, most) or []
        return [
            len(value) if kind in _SEQUENCES else len(found),
            *(content(one, depth - 1) for one in found),
        ]
    if depth > 0 and any(one in kinds for one in _SETS):
        return frozenset(_key(one) for one in items(value, most) or [])
    return _Same(value)


def _key(value: Any) -> Any:
    if type(value) in _ATOMS or type(value) is float:
        return type(value), value
    if type(value) is tuple:
        return tuple(_key(one) for one in value)
    return _Same(value)


def _array(value: Any) -> Any:
    plain = np.ndarray.view(value, np.ndarray)
    if plain.dtype.hasobject:
        return [content(one, 1) for one in items(value) or []]
    flat = plain.reshape(-1)
    step = 1 + plain.nbytes // MOST_BYTES
    # Compared bit for bit: NaN equals NaN, and -0 differs from 0.
    return plain.dtype.str, plain.shape, zlib.crc32(np.ascontiguousarray(flat[::step]).tobytes())


def _buffer(value: Any) -> Any:
    try:
        seen = memoryview(value).cast("B")
    except (TypeError, ValueError, BufferError):
        return _Same(value)
    return len(seen), zlib.crc32(seen[:: 1 + len(seen) // MOST_BYTES].tobytes())


def differ(before: Any, after: Any) -> bool:
    """Return whether a content has changed, other than by drawing random numbers.

    New keys of a dictionary, or new attributes of an object, do not count as a change if all others
    are unchanged: this is how caches behave.
    """
    if before is RANDOM_STATE or after is RANDOM_STATE:
        return False
    if type(before) is dict and type(after) is dict:
        return any(key not in after or differ(one, after[key]) for key, one in before.items())
    if type(before) is list and type(after) is list and len(before) == len(after):
        return any(differ(*pair) for pair in zip(before, after, strict=True))
    return bool(before != after)
