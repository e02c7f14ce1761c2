"""Modules by name, ``my_module``, or by file, ``./my_module.py``: what stands before the colon."""

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
    "pygame": "render",
    "cv2": "atari",
}
"""Packages that environments need, and the extra of poise that installs each."""


def split_path(path: str) -> tuple[str, str, str]:
    """An import path as module, colon and attribute; without a colon, all of it is the module.

    A file's name may hold a colon itself.
    """
    file, ending, attribute = path.rpartition(".py:")
    if ending:
        return f"{file}.py", ":", attribute
    return path.partition(":")


def is_file_name(module: str) -> bool:
    """Whether a module is named by its file."""
    return module.endswith(".py")


def import_module(module: str) -> Any:
    """Import a module by its name, or by its file, whose folder is then on the path.

    The module of a file has the file's name, so that other processes find it on the path, too.

    Raises:
        EnvironmentNotFoundError: there is no such file, or its name belongs to another module.
        Exception: whatever the module raises.
    """
    if not is_file_name(module):
        # A command does not have the current folder on its path, where a user's module lies.
        _put_on_path(Path.cwd())
        return importlib.import_module(module)
    file = Path(module).expanduser().absolute()
    name = file.stem
    if not file.is_file():
        raise EnvironmentNotFoundError(f"there is no file {module} in {Path.cwd()}")
    if not name.isidentifier():
        raise EnvironmentNotFoundError(
            f"{module} cannot be imported: a module's name has letters, digits and underscores "
            "only, so give the file another one"
        )
    _put_on_path(file.parent)
    found = importlib.import_module(name)
    origin = getattr(found, "__file__", None)
    if origin is None or not os.path.samefile(origin, file):
        raise EnvironmentNotFoundError(
            f"{module} cannot be imported, because there is another module {name!r} "
            f"({origin or 'of Python itself'}): give the file another name"
        )
    return found


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def missing_extra(name: str, error: Exception) -> MissingExtraError:
    """The error that says which extra an environment needs, from what raised for want of it."""
    text = f"{error} {getattr(error, 'name', '')} {error.__cause__}"
    for package, extra in EXTRAS.items():
        if package in text:
            return MissingExtraError(
                f"the environment {name} needs {package}: pip install 'poise[{extra}]'"
            )
    return MissingExtraError(f"the environment {name} needs something not installed: {error}")
