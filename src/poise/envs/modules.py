"""Importing modules by name (``my_module``) or by file (``./my_module.py``)."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from poise.errors import EnvironmentNotFoundError, MissingExtraError

__all__ = ["EXTRAS", "import_module", "is_file_name", "missing_extra", "split_path"]

EXTRAS = {
    "ale_py": "atari",
    "mujoco": "mujoco",
    "Box2D": "box2d",
    "box2d": "box2d",
    "envpool": "envpool",
    "pygame": "render",
    "cv2": "atari",
}
"""Packages that environments need, with the poise extra that installs each."""


def split_path(path: str) -> tuple[str, str, str]:
    """Split an import path into module, colon and attribute; without a colon, all is the module.

    A file's path may itself contain a colon.
    """
    file, ending, attribute = path.rpartition(".py:")
    if ending:
        return f"{file}.py", ":", attribute
    return path.partition(":")


def is_file_name(module: str) -> bool:
    """Return whether a module is given by its file."""
    return module.endswith(".py")


def import_module(module: str) -> Any:
    """Import a module by its name, or by its file, whose folder is added to ``sys.path``.

    A file's module gets the file's name, so that other processes can import it from ``sys.path``.

    Raises:
        EnvironmentNotFoundError: there is no such file, or another module has the same name.
        Exception: any exception that the module raises.
    """
    if not is_file_name(module):
        # An installed command does not have the current folder on its path.
        _put_on_path(Path.cwd())
        return importlib.import_module(module)
    file = Path(module).expanduser().absolute()
    name = file.stem
    if not file.is_file():
        raise EnvironmentNotFoundError(f"there is no file {module} in {Path.cwd()}")
    if not name.isidentifier():
        raise EnvironmentNotFoundError(
            f"{module} cannot be imported: a module's name may contain only letters, digits and "
            "underscores; rename the file"
        )
    _put_on_path(file.parent)
    found = importlib.import_module(name)
    origin = getattr(found, "__file__", None)
    if origin is None or not os.path.samefile(origin, file):
        raise EnvironmentNotFoundError(
            f"{module} cannot be imported, because there is another module {name!r} "
            f"({origin or 'of Python itself'}): rename the file"
        )
    return found


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def missing_extra(name: str, error: Exception) -> MissingExtraError:
    """Make the error that says which extra an environment needs, from the import error."""
    text = f"{error} {getattr(error, 'name', '')} {error.__cause__}"
    for package, extra in EXTRAS.items():
        if package in text:
            return MissingExtraError(
                f"the environment {name} needs {package}: pip install 'poise[{extra}]'"
            )
    return MissingExtraError(f"the environment {name} needs a package that is missing: {error}")
