"""Tools against the loaders of files: what a hostile file may cost, and how to make one."""

import builtins
import contextlib
import json
import os
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from poise.envs import env_factory, modules
from poise.errors import PoiseError

ALLOWANCE = 128 << 20
"""Bytes that a small file may make a loader allocate at most."""


@contextlib.contextmanager
def bounded(allowance: int = ALLOWANCE) -> Iterator[None]:
    """Nothing is imported inside, and no more than this many bytes are allocated at a time."""
    known = set(sys.modules)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= allowance, f"{peak >> 20} MB were allocated"
    new = {name for name in set(sys.modules) - known if name.split(".")[0] not in _QUIET}
    assert not new, f"imported: {new}"


# Imported late by what the loaders use, whatever the file says.
_QUIET = {
    "beartype",
    "encodings",
    "hypothesis",
    "jax",
    "jaxlib",
    "jaxtyping",
    "matplotlib",
    "numpy",
    "poise",
    "safetensors",
    "scipy",
}


def load_or_refuse(load: Callable[[], Any]) -> bool:
    """Load within bounds; true if it worked, false if there was one of poise's own errors."""
    with bounded():
        try:
            load()
        except PoiseError:
            return False
        return True


def load_all_or_refuse(load: Callable[[bytes], Any], contents: list[bytes]) -> None:
    """The same for many contents, within the bounds of one."""
    with bounded():
        for content in contents:
            with contextlib.suppress(PoiseError):
                load(content)


def refuse_execution(monkeypatch: Any) -> None:
    """Whatever runs code that a file chooses raises."""

    def forbidden(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            raise AssertionError(f"{name} was called")

        return call

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (os, "system"),
        (builtins, "eval"),
        (env_factory, "_import"),
        (env_factory, "import_module"),
        (modules, "import_module"),
    ):
        monkeypatch.setattr(module, name, forbidden(name))


WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x",
    "os:system",
    "9" * 400,
    [],
    [[]],
    [None],
    {},
    {"space": "Box"},
]
"""Values of other types, or beyond all bounds."""


def paths(content: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value there is something to change."""
    if here:
        yield here
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        yield from paths(value, (*here, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value there."""
    copy = json.loads(json.dumps(content))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return copy


def removed(content: Any, path: tuple[Any, ...]) -> Any:
    """A copy without it."""
    copy = json.loads(json.dumps(content))
    at = copy
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return copy


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes) -> bytes:
    """A safetensors file, or what pretends to be one."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
