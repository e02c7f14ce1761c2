"""Trust: an import path that comes out of a file is imported only if the user says so.

Opening a stranger's run or policy must not run the stranger's code; making an environment that is
named by an import path does, so it takes ``--trust``.
"""

from collections.abc import Callable
from typing import Any

import gymnasium

from poise.config import EnvironmentChoice
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.errors import UntrustedImportError

__all__ = ["EnvironmentFactory", "env_factory_from_file"]

EnvironmentFactory = Callable[..., gymnasium.Env[Any, Any]]


def env_factory_from_file(
    choice: EnvironmentChoice, factory: EnvironmentFactory | None, trust: bool
) -> EnvFactory:
    """Find the environment that a file names.

    Args:
        choice: as the file has it.
        factory: makes the environment instead of what the file names.
        trust: import what the file names.

    Raises:
        UntrustedImportError: the file names code to import, and is not trusted.
        EnvironmentNotFoundError: there is no such environment.
    """
    named = [path for path in choice.imports if factory is None or path != choice.name]
    if named and not trust:
        raise UntrustedImportError(
            f"this would import {' and '.join(named)}, as the file says: "
            "pass --trust if you trust it"
        )
    return find_env_factory(choice, factory)
