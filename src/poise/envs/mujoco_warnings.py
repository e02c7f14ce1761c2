"""What MuJoCo warns of when it loads a model: said once, not for every copy.

MuJoCo writes its warnings past Python, to standard error and to a log file, each time.
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

_said: set[str] = set()
"""By this process."""


@contextmanager
def remarks_once(spec: EnvSpec | None) -> Iterator[None]:
    """Make an environment meanwhile; what MuJoCo warns of becomes a warning, the first time."""
    if spec is not None and "mujoco" in str(spec.entry_point):
        # Where it is missing, making the environment says so better.
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
    # A worker's process makes what the run's process has made and remarked upon already.
    if text in _said or multiprocessing.parent_process() is not None:
        return
    _said.add(text)
    warnings.warn(f"MuJoCo: {text}", RuntimeWarning, stacklevel=2)
