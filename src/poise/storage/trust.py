"""Trust: an import path read from a file is imported only if the user allows it.

Opening a stranger's run or policy must not execute the stranger's code. An environment that is
named by an import path can only be made by executing it, so that requires ``--trust``; so does a
network of one's own.
"""

from collections.abc import Callable
from typing import Any

import gymnasium

from poise.agent.network import NetworkFactory
from poise.config import EnvironmentChoice
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.env_lookup import import_callable
from poise.errors import UntrustedImportError

__all__ = ["EnvironmentFactory", "env_factory_from_file", "network_from_file"]

EnvironmentFactory = Callable[..., gymnasium.Env[Any, Any]]


def env_factory_from_file(
    choice: EnvironmentChoice, factory: EnvironmentFactory | None, trust: bool
) -> EnvFactory:
    """Find the environment that a file names, and import its code only if the user trusts it.

    Args:
        choice: the environment as the file describes it.
        factory: makes the environment, instead of the one that the file names.
        trust: allow importing the code that the file names.

    Raises:
        UntrustedImportError: the file names code to import, but ``trust`` is False.
        EnvironmentNotFoundError: there is no such environment.
    """
    named = [path for path in choice.imports if factory is None or path != choice.name]
    _require_trust(named, trust)
    return find_env_factory(choice, factory)


def network_from_file(path: str, trust: bool) -> NetworkFactory:
    """Import what makes the network that a file names, if the user trusts it.

    Args:
        path: the import path ``module:name``.
        trust: allow importing it.

    Raises:
        UntrustedImportError: ``trust`` is False.
        EnvironmentNotFoundError: there is nothing to call under this path.
    """
    _require_trust([path], trust)
    found: NetworkFactory = import_callable(path, "network")
    return found


def _require_trust(paths: list[str], trust: bool) -> None:
    if paths and not trust:
        raise UntrustedImportError(
            f"this would import {' and '.join(paths)}, as the file says: "
            "pass --trust if you trust it"
        )
