"""The search for leaked shared memory finds leaks made on purpose."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..shared_memory import allocations, held_here, holders

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")

MAPPED = """
import mmap, sys
memory = mmap.mmap(int(sys.argv[1]), 4096)
print("ready", flush=True)
sys.stdin.read()
"""
OPEN = 'import sys; print("ready", flush=True); sys.stdin.read()'


@pytest.mark.parametrize("leak", [MAPPED, OPEN])
def test_memory_that_another_process_holds_is_found(leak: str) -> None:
    before = holders(os.getpid())
    memory: Any = multiprocessing.get_context("spawn").RawArray("B", 100_000)
    name = f"/pym-{os.getpid()}-"
    descriptors = [one for one in os.listdir("/proc/self/fd") if name in _target(one)]
    assert descriptors
    process = subprocess.Popen(
        [sys.executable, "-c", leak, descriptors[-1]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[int(descriptors[-1])],
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert holders(os.getpid()) - before == {process.pid}
    finally:
        process.communicate()
    assert holders(os.getpid()) == before
    del memory


def test_memory_that_is_kept_here_is_found() -> None:
    before, asked = held_here(), allocations()
    memory: Any = multiprocessing.get_context("spawn").RawArray("B", 100)
    assert (held_here(), allocations()) == (before + 1, asked + 1)
    del memory
    assert held_here() == before


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
