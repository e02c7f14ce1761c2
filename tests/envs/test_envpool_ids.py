"""Which environments EnvPool may step; EnvPool itself need not be installed."""

import importlib.util
from typing import Any

import pytest

from poise.config import EnvironmentChoice
from poise.envs import envpool_ids
from poise.envs.env_factory import find_env_factory
from poise.envs.envpool_ids import ADMITTED, REFUSED
from poise.envs.registry import env_backend
from poise.errors import ConfigError, MissingExtraError


def env_factory(name: str, **choice: Any) -> Any:
    return find_env_factory(EnvironmentChoice(name, **choice))


@pytest.fixture(params=[True, False])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(envpool_ids, "has_envpool", lambda: request.param)
    return bool(request.param)


def test_nothing_is_both_admitted_and_refused() -> None:
    assert not set(ADMITTED) & set(REFUSED)
    assert len(set(ADMITTED)) == len(ADMITTED)


def test_auto_takes_envpool_where_it_is_installed(installed: bool) -> None:
    expected = "envpool" if installed else "copies"
    assert env_backend(env_factory("LunarLander-v3"), "auto") == expected


def test_auto_prefers_a_twin(installed: bool) -> None:
    assert env_backend(env_factory("CartPole-v1"), "auto") == "compiled"


def test_arguments_and_wrappers_need_the_environment_itself(installed: bool) -> None:
    factory = env_factory("LunarLander-v3", env_kwargs=("gravity=-5.0",))
    assert env_backend(factory, "auto") == "copies"
    with pytest.raises(ConfigError, match="with default arguments, without wrappers"):
        env_backend(factory, "envpool")


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "envpool" else find(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'poise\[envpool\]'"):
        env_backend(env_factory("LunarLander-v3"), "envpool")


@pytest.mark.parametrize(
    ("name", "why"),
    [("Blackjack-v1", "observes an array, not a tuple"), ("CartPole-v1", "not been compared")],
)
def test_others_are_refused_with_a_reason(installed: bool, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f'world="envpool" is not available for {name}: .*{why}'):
        env_backend(env_factory(name), "envpool")
