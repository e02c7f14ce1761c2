"""Search for processes that hold shared memory of multiprocessing.

CPython unlinks it as soon as it is created, so it has no name in /dev/shm; only the mappings and
descriptors of processes show it. It is freed when the last of them is gone.
"""

import gc
import os
from multiprocessing.heap import BufferWrapper
from pathlib import Path
from typing import Any

_HEAP: Any = BufferWrapper._heap


def allocations() -> int:
    """How often this process has allocated shared memory so far."""
    return int(_HEAP._n_mallocs)


def held_here() -> int:
    """Pieces of shared memory that this process has allocated and not released."""
    gc.collect()
    # Blocks that were released while the heap was locked are freed by this call.
    _HEAP._free_pending_blocks()
    return int(_HEAP._n_mallocs - _HEAP._n_frees)


def holders(creator: int) -> set[int]:
    """Other visible processes that hold shared memory created by this one."""
    name = f"/pym-{creator}-"
    return {
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if int(folder.name) != creator and (_maps(folder, name) or _has_open(folder, name))
    }


def _maps(folder: Path, name: str) -> bool:
    try:
        return name in (folder / "maps").read_text()
    except OSError:
        return False


def _has_open(folder: Path, name: str) -> bool:
    try:
        descriptors = list((folder / "fd").iterdir())
    except OSError:
        return False
    for one in descriptors:
        try:
            if name in os.readlink(one):
                return True
        except OSError:
            continue
    return False
