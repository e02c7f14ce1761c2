"""What is in an object, read without running any of its code: no property, no ``__getattr__``.

Everything goes through the descriptors of the interpreter itself, and `type` instead of
`isinstance`, which asks an object for its ``__class__``.
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

__all__ = ["CHANCE", "attributes", "bases", "content", "differ", "is_chance", "items", "namespace"]

MOST_ITEMS = 10_000
"""Of a container; of a longer one, this many are looked at."""
MOST_INNER_ITEMS = 100
"""Of a container in a container; those are looked at for themselves, too."""
MOST_BYTES = 1 << 24
"""Of an array; of a larger one, this many are looked at."""
DEPTH = 3
"""How deep plain containers are compared by what is in them, instead of by who they are."""

CHANCE = object()
"""The content of a generator: how far it has come is chance, and no state."""

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
_OF_CHANCE = {"_np_random", "_np_random_seed"}
"""Attributes of a space; to sample from it changes them."""
_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)

_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def bases(kind: type) -> tuple[type, ...]:
    """A class and what it derives from."""
    found: tuple[type, ...] = _mro(kind)
    return found


def namespace(kind: type) -> Any:
    """A class's own attributes, as they are."""
    return _namespace(kind)


def _is_one_of(value: Any, kinds: Iterable[type]) -> bool:
    found = bases(type(value))
    return any(kind in found for kind in kinds)


def is_chance(value: Any) -> bool:
    """Whether it is a generator of random numbers."""
    return _is_one_of(value, _GENERATORS)


def attributes(value: Any) -> dict[str, Any]:
    """The attributes that an object holds itself, in its ``__dict__`` and its ``__slots__``."""
    found: dict[str, Any] = {}
    kind: Any = type(value)
    for name, member in _places(kind):
        try:
            held = member.__get__(value)
        except AttributeError:
            continue
        if name != "__dict__":
            found.setdefault(name, held)
        elif type(held) is dict:
            found.update(held)
    if gymnasium.Space in bases(kind):
        return {name: one for name, one in found.items() if name not in _OF_CHANCE}
    return found


@functools.lru_cache(maxsize=1024)
def _places(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Where instances of a class keep attributes: the interpreter's own descriptors."""
    return tuple(
        (name, member)
        for one in bases(kind)
        for name, member in list(namespace(one).items())
        if (type(member) is types.MemberDescriptorType and one.__module__ != "builtins")
        or (name == "__dict__" and type(member) is types.GetSetDescriptorType)
    )


def items(value: Any, most: int = MOST_ITEMS) -> list[Any] | None:
    """What is in a container; None of what is none, and some where there are very many."""
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
    """An object that is only asked whether it is the same one; kept, so that its id stays its."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def content(value: Any, depth: int = DEPTH) -> Any:
    """What can be compared with the content at another time by `differ`."""
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind is float:
        return kind, value.hex()
    if is_chance(value):
        return CHANCE
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
    # Bit for bit: NaN is NaN, and -0 is not 0.
    return plain.dtype.str, plain.shape, zlib.crc32(np.ascontiguousarray(flat[::step]).tobytes())


def _buffer(value: Any) -> Any:
    try:
        seen = memoryview(value).cast("B")
    except (TypeError, ValueError, BufferError):
        return _Same(value)
    return len(seen), zlib.crc32(seen[:: 1 + len(seen) // MOST_BYTES].tobytes())


def differ(before: Any, after: Any) -> bool:
    """Whether a content has changed, other than by chance.

    What only came to a dictionary, or to an object's attributes, while all that was there stayed,
    is no change: that is how things are remembered which were worked out once.
    """
    if before is CHANCE or after is CHANCE:
        return False
    if type(before) is dict and type(after) is dict:
        return any(key not in after or differ(one, after[key]) for key, one in before.items())
    if type(before) is list and type(after) is list and len(before) == len(after):
        return any(differ(*pair) for pair in zip(before, after, strict=True))
    return bool(before != after)
