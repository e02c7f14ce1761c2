"""MuJoCo's warnings on loading a model, shown once instead of for every copy.

MuJoCo itself writes them each time, bypassing Python, to standard error and to a log file.
"""

import importlib
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gymnasium.envs.registration import EnvSpec

__all__ = ["remarks_once"]

_shown: set[str] = set()
"""The warnings that this process has already shown."""


@contextmanager
def remarks_once(spec: EnvSpec | None) -> Iterator[None]:
    """While an environment is made, turn each new MuJoCo warning into a Python warning."""
    if spec is not None and "mujoco" in str(spec.entry_point):
        # If the package is missing, making the environment raises a better error.
        with suppress(ImportError):
            importlib.import_module("mujoco")
    mujoco_module: Any = sys.modules.get("mujoco")
    if not hasattr(mujoco_module, "set_mju_user_warning"):
        yield
        return
    before = mujoco_module.get_mju_user_warning()
    mujoco_module.set_mju_user_warning(_remark)
    try:
        yield
    finally:
        mujoco_module.set_mju_user_warning(before)


def _remark(text: str) -> None:
    # The main process has made the same environment before and has shown its warnings.
    if text in _shown or multiprocessing.parent_process() is not None:
        return
    _shown.add(text)
    warnings.warn(f"MuJoCo: {text}", RuntimeWarning, stacklevel=2)
