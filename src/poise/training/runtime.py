"""The process of a run: JAX's settings, the compilation cache, and versions."""

import ctypes
import functools
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from poise.training.jax_settings import require_usable_settings
from poise.user_warnings import warn_caller

__all__ = ["prepare_jax", "processor_model", "usable_cache_folder", "versions"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""mallopt(3): options for the minimum size, in bytes, of free memory that glibc returns to the
system, at the top of the heap and for a single block."""
_MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Environment variables by which users configure the allocator themselves."""
PACKAGES = ("poise", "jax", "jaxlib", "numpy", "gymnasium", "equinox", "optax")


def prepare_jax() -> None:
    """Set what must be set before JAX's backend starts; do nothing if it has started.

    Three settings: synchronous dispatch on the CPU, which suits threads better (otherwise a call is
    handed to another thread and waited for); the compilation cache in the user's cache folder,
    which speeds up every start but the first; and glibc keeps the memory that XLA frees, for XLA's
    next call. Settings that the user has made are respected.

    Raises:
        ConfigError: poise cannot train under the user's JAX settings.
    """
    import jax  # slow to import  # noqa: PLC0415
    from jax._src import xla_bridge  # noqa: PLC0415 - there is no public way to ask

    require_usable_settings()
    if xla_bridge.backends_are_initialized():
        return
    _keep_freed_memory()
    update: Callable[[str, object], None] = jax.config.update
    update("jax_cpu_enable_async_dispatch", False)
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    folder = usable_cache_folder()
    if folder is not None:
        update("jax_compilation_cache_dir", str(folder))
        update("jax_persistent_cache_min_compile_time_secs", 0.0)
        update("jax_persistent_cache_min_entry_size_bytes", -1)


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory.

    XLA allocates new working memory for every call. By default, glibc returns large blocks to
    the system and gets them back page by page: with a network of a million parameters, that took
    half of a cycle's time (measured: 24 ms of CPU time per cycle, 13 ms with these settings).
    """
    if sys.platform != "linux" or any(name in os.environ for name in _MALLOC_VARIABLES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def usable_cache_folder() -> Path | None:
    """Return the folder for compiled programs; None if there is none, so every start compiles.

    A container may have no HOME, a user id without a name, or a read-only file system; XLA would
    then warn about every program.
    """
    try:
        folder = (_cache_folder() / "xla").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return folder
        reason = f"{folder} cannot be written"
    except (OSError, RuntimeError) as error:
        # RuntimeError: there is no home folder.
        reason = str(error)
    if multiprocessing.parent_process() is None:
        warn_caller(
            f"every start compiles all programs again, because there is no cache folder: {reason} "
            "(set XDG_CACHE_HOME to another folder)"
        )
    return None


def _cache_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "poise"
    base = Path("Library", "Caches") if sys.platform == "darwin" else Path(".cache")
    return Path.home() / base / "poise"


def processor_model() -> str:
    """The processor's name, as far as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a run depends on."""
    return {"python": platform.python_version(), **{one: _version(one) for one in PACKAGES}}


@functools.cache  # reading them all takes 20 ms
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
