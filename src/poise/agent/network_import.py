"""Networks of one's own in policy files: as the import path of what makes them.

A file holds no code. Opening it imports the module that it names only if the user allows that.
"""

import importlib
from typing import Any

from poise.agent.network import NetworkFactory
from poise.errors import ConfigError, UntrustedImportError

__all__ = ["import_network", "network_path"]


def network_path(factory: NetworkFactory) -> str:
    """Return the import path ``module:name`` of a network factory.

    Raises:
        ConfigError: it cannot be imported under its name, so no other process could find it.
    """
    module = getattr(factory, "__module__", None)
    name = getattr(factory, "__qualname__", None)
    path = f"{module}:{name}"
    if module is None or name is None or _find(path) is not factory:
        raise ConfigError(
            f"a policy with the network of {factory!r} cannot be saved, because it cannot be "
            "imported: make it a function or class at the top of a module"
        )
    return path


def import_network(path: object, trust: bool) -> NetworkFactory:
    """Import the network factory that a file names.

    Raises:
        UntrustedImportError: the user has not allowed it.
        ValueError: there is nothing to call under this path.
    """
    if not isinstance(path, str):
        raise ValueError("the path of its network is not text")
    if not trust:
        raise UntrustedImportError(
            f"this would import {path}, as the file says: pass --trust if you trust it"
        )
    factory = _find(path)
    if not callable(factory):
        raise ValueError(f"there is no network {path} to import")
    found: NetworkFactory = factory
    return found


def _find(path: str) -> Any:
    """Import what an import path names; None if there is no such thing."""
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found
