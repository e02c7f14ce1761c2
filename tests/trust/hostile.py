"""Tools for testing loaders with hostile files: limits on loading, and ways to make such files."""

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

from poise.envs import env_lookup, modules
from poise.errors import PoiseError

ALLOWANCE = 128 << 20
"""Maximum number of bytes that loading a small file may allocate."""


@contextlib.contextmanager
def bounded(allowance: int = ALLOWANCE) -> Iterator[None]:
    """Check that nothing is imported inside, and that memory stays below this many bytes."""
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


# Imported lazily by libraries that the loaders use, whatever the file contains.
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
    """Load within bounds; True if it worked, False if it raised one of poise's own errors."""
    with bounded():
        try:
            load()
        except PoiseError:
            return False
        return True


def load_all_or_refuse(load: Callable[[bytes], Any], contents: list[bytes]) -> None:
    """Load many contents, within the bounds of one."""
    with bounded():
        for content in contents:
            with contextlib.suppress(PoiseError):
                load(content)


def refuse_execution(monkeypatch: Any) -> None:
    """Make every function raise that could execute code chosen by a file."""

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
        (env_lookup, "import_callable"),
        (env_lookup, "import_module"),
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
"""Values of other types, or out of range."""


def paths(content: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON value."""
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
    """Return a copy with another value at a path."""
    copy = json.loads(json.dumps(content))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return copy


def removed(content: Any, path: tuple[Any, ...]) -> Any:
    """Return a copy without the value at a path."""
    copy = json.loads(json.dumps(content))
    at = copy
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return copy


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the data of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes) -> bytes:
    """Return a safetensors file with this header, even if it is invalid."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
