"""MuJoCo's warnings are shown once, by the main process."""

import multiprocessing
import sys
import types
import warnings
from typing import Any

import pytest
from gymnasium.envs.registration import EnvSpec

from poise.envs import mujoco_warnings
from poise.envs.mujoco_warnings import remarks_once

SPEC = EnvSpec("Cheetah-v0", entry_point="gymnasium.envs.mujoco:Cheetah")
TEXT = "an attribute is deprecated"


class FakeMujoco(types.ModuleType):
    """Emits warnings through a handler, if there is one."""

    def __init__(self) -> None:
        super().__init__("mujoco")
        self.handler: Any = None

    def get_mju_user_warning(self) -> Any:
        return self.handler

    def set_mju_user_warning(self, handler: Any) -> None:
        self.handler = handler


@pytest.fixture
def mujoco(monkeypatch: pytest.MonkeyPatch) -> FakeMujoco:
    fake = FakeMujoco()
    monkeypatch.setitem(sys.modules, "mujoco", fake)
    monkeypatch.setattr(mujoco_warnings, "_shown", set())
    return fake


def load(mujoco: FakeMujoco) -> None:
    with remarks_once(SPEC):
        mujoco.handler(TEXT)


def test_each_warning_is_shown_once(mujoco: FakeMujoco) -> None:
    with pytest.warns(RuntimeWarning, match=TEXT):
        load(mujoco)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(mujoco)
    assert mujoco.handler is None


def test_workers_show_no_warnings(mujoco: FakeMujoco, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    load(mujoco)


@pytest.mark.parametrize("module", [None, types.ModuleType("mujoco")])
def test_without_mujoco_nothing_happens(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo is not installed, or too old to have warning handlers."""
    monkeypatch.setitem(sys.modules, "mujoco", module)
    with remarks_once(SPEC):
        pass
