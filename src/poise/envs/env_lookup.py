"""Looking up an environment by name, in Gymnasium's registry or by its import path."""

import ast
import difflib
from collections.abc import Callable, Iterable
from typing import Any

import gymnasium

from poise.config import is_atari_name
from poise.envs.modules import EXTRAS, import_module, is_file_name, missing_extra, split_path
from poise.errors import ConfigError, EnvironmentNotFoundError

__all__ = ["import_callable", "import_path", "parse_keyword_arguments", "resolve_name"]

SUGGESTIONS = 3


def parse_keyword_arguments(texts: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """Parse ``key=value`` strings; a value that is not a Python literal is taken as a string.

    Raises:
        ConfigError: a string does not have that form.
    """
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--env-kwargs takes key=value, but got {text!r}")
        try:
            pairs.append((key, ast.literal_eval(value)))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pairs.append((key, value))
    return tuple(pairs)


def import_path(factory: Callable[..., Any]) -> str:
    """Return the import path ``module:attribute`` of a class or function."""
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    return f"{getattr(factory, '__module__', '__main__')}:{name}"


def resolve_name(name: str) -> Callable[..., gymnasium.Env[Any, Any]] | None:
    """Resolve an environment's name to a factory; imports its module if necessary.

    Returns:
        The factory, or None if Gymnasium's registry now has the environment.

    Raises:
        EnvironmentNotFoundError: there is no such environment; the message has similar names.
        MissingExtraError: the environment's package is not installed.
    """
    if is_atari_name(name):
        _register_atari(name)
    return None if name in gymnasium.registry else _find_elsewhere(name)


def _find_elsewhere(name: str) -> Callable[..., gymnasium.Env[Any, Any]] | None:
    """Return a factory for ``module:attribute``; None if importing the module registers the id."""
    module, colon, rest = split_path(name)
    if not colon:
        if is_file_name(name):
            raise EnvironmentNotFoundError(
                f"{name!r} is a file name: add the class or function in it, for example "
                f"{name}:MyEnv"
            )
        raise _unknown(name)
    _module(module, name)
    if rest in gymnasium.registry:
        return None
    factory: Callable[..., gymnasium.Env[Any, Any]] = import_callable(name, "environment")
    return factory


def import_callable(path: str, kind: str) -> Any:
    """Import a class or function ``module:attribute``; ``kind`` is used in messages."""
    module, colon, attribute = split_path(path)
    if not colon:
        raise EnvironmentNotFoundError(
            f"the {kind} {path!r} is not an import path module:attribute"
        )
    found: Any = _module(module, path)
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in dir(found) if callable(getattr(found, name, None))]
            raise EnvironmentNotFoundError(
                f"the {kind} {path!r}: {module} has no {attribute}{_nearest(part, names)}"
            )
        found = getattr(found, part)
    if not callable(found):
        what = "is an object" if isinstance(found, gymnasium.Env) else "cannot be called"
        raise EnvironmentNotFoundError(
            f"the {kind} {path!r} {what}: name a class, or a function that makes a new one"
        )
    return found


def _module(module: str, path: str) -> Any:
    try:
        return import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, EnvironmentNotFoundError):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            raise missing_extra(path, error) from error
        raise EnvironmentNotFoundError(
            f"{path!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _register_atari(name: str) -> None:
    try:
        import ale_py  # an extra, and slow  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(name, error) from error
    identity = name.rpartition(":")[2]
    if identity not in gymnasium.registry:
        gymnasium.register_envs(ale_py)
    if identity not in gymnasium.registry:
        raise _unknown(name)


def _unknown(name: str) -> EnvironmentNotFoundError:
    hint = _nearest(name, gymnasium.registry)
    module, _, attribute = name.rpartition(".")
    if module.replace(".", "").isidentifier() and attribute.isidentifier():
        hint = f"; for an environment in your own module, write {module}:{attribute}"
    return EnvironmentNotFoundError(f"there is no environment {name!r} in Gymnasium{hint}")


def _nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the most similar names."""
    lowered = {one.lower(): one for one in sorted(names)}
    near = difflib.get_close_matches(name.lower(), lowered, n=SUGGESTIONS, cutoff=0.5)
    if not near:
        return ""
    found = ", ".join(lowered[one] for one in near)
    return f"; similar names are {found}" if len(near) > 1 else f"; a similar name is {found}"
