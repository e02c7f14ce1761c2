"""JAX's settings, which a user of poise may have changed in the same process.

They are respected, in worker processes too. Those that change numerical results are saved with the
run, and are used again when it is replayed or resumed.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax

from poise.errors import ConfigError, FileFormatError
from poise.validation import shown

__all__ = [
    "adopt_settings",
    "decisive_settings",
    "recorded_settings",
    "require_usable_settings",
    "settings_restored",
    "shared_settings",
]

_DECISIVE: Mapping[str, type] = MappingProxyType(
    {
        "jax_default_matmul_precision": str,
        "jax_default_prng_impl": str,
        "jax_enable_x64": bool,
        "jax_random_seed_offset": int,
        "jax_threefry_partitionable": bool,
    }
)
"""Settings that change numerical results, with their types; the precision may also be None."""
_OTHERS = (
    "jax_debug_infs",
    "jax_debug_nans",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_platforms",
)
"""Settings that say what is allowed, and where it is computed."""
_GUARDS = (
    "jax_transfer_guard",
    "jax_transfer_guard_device_to_device",
    "jax_transfer_guard_device_to_host",
    "jax_transfer_guard_host_to_device",
)
_MAX_SEED_OFFSET = 2**31


def decisive_settings() -> dict[str, Any]:
    """Return the settings of this process that change numerical results; JSON types."""
    return _read(_DECISIVE)


def shared_settings() -> dict[str, Any]:
    """Return the settings that worker processes must share with this one; can be pickled."""
    return _read((*_DECISIVE, *_OTHERS))


def adopt_settings(settings: Mapping[str, Any]) -> None:
    """Apply settings in this process that `shared_settings` returned in another."""
    update: Callable[[str, Any], None] = jax.config.update
    for name, value in settings.items():
        if getattr(jax.config, name) != value:
            update(name, value)


@contextlib.contextmanager
def settings_restored() -> Iterator[None]:
    """Restore the settings that change numerical results, after a block or decorated function."""
    before = decisive_settings()
    try:
        yield
    finally:
        adopt_settings(before)


def recorded_settings(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run was made with; older runs recorded none.

    Args:
        resolved: the decisions in the run's ``config.json``.

    Raises:
        FileFormatError: they are not valid settings.
    """
    found = resolved.get("jax_settings", {})
    if not isinstance(found, dict) or not found.keys() <= _DECISIVE.keys():
        raise FileFormatError(f"config.json is damaged: its jax_settings are {shown(found)}")
    with settings_restored():
        for name, value in found.items():
            may_be_none = name == "jax_default_matmul_precision" and value is None
            large = type(value) is int and abs(value) >= _MAX_SEED_OFFSET
            try:
                if large or not (may_be_none or type(value) is _DECISIVE[name]):
                    raise ValueError(name)
                adopt_settings({name: value})
            except ValueError as error:
                raise FileFormatError(
                    f"config.json is damaged: {name} is {shown(value)}"
                ) from error
    return found


def require_usable_settings() -> None:
    """Reject settings under which poise can neither train nor replay.

    Raises:
        ConfigError: such a setting is active; the message names it.
    """
    if getattr(jax.config, "jax_disable_jit", False):
        raise ConfigError(
            "JAX's jit is switched off (jax_disable_jit), but poise compiles its programs before "
            "they run: switch it on"
        )
    for name, value in _read(_GUARDS).items():
        if value in ("disallow", "disallow_explicit"):
            raise ConfigError(
                f"{name} is {value!r}, but poise hands arrays to XLA and takes them back all the "
                "time: allow it, or set it after the training"
            )
    everywhere: dict[str, Any] = {}
    # A context manager sets a value for its own thread only.
    asking = threading.Thread(target=lambda: everywhere.update(shared_settings()))
    asking.start()
    asking.join()
    for name, value in shared_settings().items():
        if everywhere[name] != value:
            raise ConfigError(
                f"{name} is {value!r} in this thread only (as by a context manager), but poise "
                "computes in other threads and processes, too: set it with jax.config.update"
            )


def _read(names: Iterable[str]) -> dict[str, Any]:
    missing = object()
    found = {name: getattr(jax.config, name, missing) for name in names}
    return {name: value for name, value in found.items() if value is not missing}
