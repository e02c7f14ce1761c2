"""Environments are made from ids, import paths and callables; paths in files need trust."""

import builtins
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from poise.config import EnvironmentChoice
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.env_lookup import import_path
from poise.errors import (
    ConfigError,
    EnvironmentNotFoundError,
    InputError,
    MissingExtraError,
    UnsupportedSpaceError,
    UntrustedImportError,
)
from poise.storage.trust import env_factory_from_file

from ..environments import Ends, make_ends

MODULE = "poise_source_toys"
TOYS = '''
"""Toys, found by import path."""
import gymnasium
from gymnasium.wrappers import TimeLimit

from gymnasium.envs.classic_control import CartPoleEnv

print("imported")
gymnasium.register("PoiseSource/Registered-v0", CartPoleEnv, max_episode_steps=7)
gymnasium.register("poise-source-plain-v3", CartPoleEnv, max_episode_steps=9, reward_threshold=5.0)


class Outer:
    """A namespace."""

    class Inner(CartPoleEnv):
        """An environment inside it."""


def make(gravity=1.0, name="x"):
    environment = CartPoleEnv()
    environment.gravity = gravity
    environment.name = name
    return environment


def short(environment):
    return TimeLimit(environment, 3)


def shorter(environment):
    return TimeLimit(environment, 2)


def nothing():
    return 3


def fails():
    raise ZeroDivisionError("no licence")


number = 5
'''


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("toys")
    (folder / f"{MODULE}.py").write_text(TOYS)
    (folder / "poise_source_broken.py").write_text("class Broken(:\n")
    (folder / "poise_source_needs.py").write_text("import poise_source_no_such_package\n")
    (folder / "poise_source_raises.py").write_text("raise ZeroDivisionError('at import')\n")
    known = set(gymnasium.registry)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for module in [MODULE, "poise_source_broken", "poise_source_needs"]:
        sys.modules.pop(module, None)
    for name in set(gymnasium.registry) - known:
        if name.lower().startswith("poise"):
            del gymnasium.registry[name]


def forget() -> None:
    """Make the module as if it had never been imported."""
    sys.modules.pop(MODULE, None)
    for one in ("PoiseSource/Registered-v0", "poise-source-plain-v3"):
        gymnasium.registry.pop(one, None)


def find(name: str, **choice: Any) -> EnvFactory:
    return find_env_factory(EnvironmentChoice(name, **choice))


def limit(environment: gymnasium.Env[Any, Any]) -> int | None:
    """Return the smallest time limit."""
    limits = []
    while isinstance(environment, gymnasium.Wrapper):
        if isinstance(environment, TimeLimit):
            limits.append(environment._max_episode_steps)
        environment = environment.env
    return min(limits, default=None)


def test_a_registered_id() -> None:
    env_factory = find("CartPole-v1")
    assert env_factory.is_plain
    assert env_factory.reward_threshold == 475.0
    assert env_factory.spec is not None
    environment = env_factory.make()
    assert limit(environment) == 500
    environment.close()


def test_an_old_version_gives_no_warning() -> None:
    find("CartPole-v0").make().close()


@pytest.mark.parametrize(
    ("name", "steps"),
    [(f"{MODULE}:PoiseSource/Registered-v0", 7), (f"{MODULE}:poise-source-plain-v3", 9)],
)
def test_an_id_that_a_module_registers(name: str, steps: int) -> None:
    forget()
    env_factory = find(name)
    assert env_factory.factory is None
    assert env_factory.is_plain
    environment = env_factory.make()
    assert limit(environment) == steps
    environment.close()


def test_the_threshold_of_an_id_in_a_module() -> None:
    assert find(f"{MODULE}:poise-source-plain-v3").reward_threshold == 5.0


@pytest.mark.parametrize("attribute", ["make", "CartPoleEnv", "Outer.Inner"])
def test_an_attribute_of_a_module(attribute: str) -> None:
    env_factory = find(f"{MODULE}:{attribute}")
    assert env_factory.factory is not None
    assert not env_factory.is_plain
    assert env_factory.spec is None
    assert env_factory.reward_threshold is None
    environment = env_factory.make()
    assert isinstance(environment, gymnasium.Env)
    environment.close()


@pytest.mark.parametrize("factory", [Ends, make_ends, lambda: Ends()])
def test_a_callable(factory: Any) -> None:
    env_factory = find_env_factory(EnvironmentChoice(import_path(factory)), factory)
    assert env_factory.factory is factory
    assert isinstance(env_factory.make(), Ends)


def test_the_import_path_of_a_class_and_a_function() -> None:
    assert import_path(Ends) == f"{Ends.__module__}:Ends"
    assert import_path(make_ends) == f"{make_ends.__module__}:make_ends"
    assert import_path(gymnasium.vector.SyncVectorEnv.reset).endswith(":SyncVectorEnv.reset")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gravity=2", 2),
        ("gravity=-1.5e3", -1500.0),
        ("gravity=None", None),
        ("gravity=True", True),
        ("gravity=[1,2]", [1, 2]),
        ("gravity={'a': (1, 'b')}", {"a": (1, "b")}),
        ("gravity='2'", "2"),
        ("gravity=hello world", "hello world"),
        ("gravity=a=b", "a=b"),
        ("gravity=", ""),
        ("gravity=__import__('os')", "__import__('os')"),
    ],
)
def test_arguments_are_python_literals_or_text(text: str, value: Any) -> None:
    env_factory = find(f"{MODULE}:make", env_kwargs=(text,))
    assert env_factory.keyword_arguments == (("gravity", value),)
    made: Any = env_factory.make()
    assert made.gravity == value


def test_several_arguments() -> None:
    made: Any = find(f"{MODULE}:make", env_kwargs=("gravity=3", "name=y")).make()
    assert (made.gravity, made.name) == (3, "y")


def test_arguments_of_a_registered_environment() -> None:
    env_factory = find("CartPole-v1", env_kwargs=("sutton_barto_reward=True",))
    assert not env_factory.is_plain
    made: Any = env_factory.make()
    assert made.unwrapped._sutton_barto_reward is True
    made.close()


@pytest.mark.parametrize("text", ["gravity", "=3", "a b=3", "1a=2", ""])
def test_other_arguments_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="env_kwargs takes key=value"):
        find("CartPole-v1", env_kwargs=(text,))


def test_unknown_arguments_are_refused_when_it_is_made() -> None:
    env_factory = find("CartPole-v1", env_kwargs=("no_such=1",))
    with pytest.raises(EnvironmentNotFoundError, match="no_such"):
        env_factory.make()


def test_wrappers_are_applied_in_turn() -> None:
    env_factory = find("CartPole-v1", wrappers=(f"{MODULE}:short", f"{MODULE}:shorter"))
    assert not env_factory.is_plain
    environment: Any = env_factory.make()
    assert environment._max_episode_steps == 2
    assert environment.env._max_episode_steps == 3
    environment.close()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("short", "not an import path module:attribute"),
        (f"{MODULE}:missing", "has no missing"),
        (f"{MODULE}:Outer.missing", "has no Outer.missing"),
        (f"{MODULE}:number", "cannot be called"),
        ("poise_no_such_module:short", "cannot be imported"),
    ],
)
def test_missing_wrappers(path: str, message: str) -> None:
    with pytest.raises(EnvironmentNotFoundError, match=message):
        find("CartPole-v1", wrappers=(path,))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{MODULE}:missing", "has no missing"),
        (f"{MODULE}:Missing-v0", "has no Missing-v0"),
        (f"{MODULE}:number", "cannot be called"),
        (f"{MODULE}:", "has no"),
        ("poise_no_such_module:make", "cannot be imported.*No module named"),
        ("poise_source_needs:make", "poise_source_no_such_package"),
        ("poise_source_broken:make", "cannot be imported"),
        ("poise_source_raises:make", "cannot be imported.*at import"),
        (":make", "cannot be imported"),
    ],
)
def test_invalid_import_paths(path: str, message: str) -> None:
    with pytest.raises(EnvironmentNotFoundError, match=message) as caught:
        find(path)
    assert path.split(":")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [("nothing", "int, which is not a gymnasium.Env"), ("fails", "ZeroDivisionError: no licence")],
)
def test_factories_that_fail(attribute: str, message: str) -> None:
    with pytest.raises(EnvironmentNotFoundError, match=message):
        find(f"{MODULE}:{attribute}").make()


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package as if it were not installed."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **named)

    for module in [one for one in sys.modules if one.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_a_missing_ale_py_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ale_py")
    with pytest.raises(MissingExtraError, match=r"needs ale_py: pip install 'poise\[atari\]'"):
        find("ALE/Pong-v5")


@pytest.mark.parametrize(
    ("name", "package", "extra", "modules"),
    [
        ("HalfCheetah-v5", "mujoco", "mujoco", "gymnasium.envs.mujoco"),
        ("LunarLander-v3", "Box2D", "box2d", "gymnasium.envs.box2d"),
    ],
)
def test_a_missing_package_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str, modules: str
) -> None:
    for module in [one for one in sys.modules if one.startswith(modules)]:
        monkeypatch.delitem(sys.modules, module)
    without(monkeypatch, package)
    with pytest.raises(MissingExtraError, match=rf"pip install 'poise\[{extra}\]'"):
        find(name).make()


def test_a_missing_package_named_as_the_module_names_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'poise\[mujoco\]'"):
        find("mujoco:Something-v0")


def test_atari_is_recognised_with_a_module_prefix() -> None:
    pytest.importorskip("ale_py")
    found = find("ale_py:ALE/Pong-v5")
    assert found.is_atari
    assert found.identity == "ALE/Pong-v5"
    assert found.spaces()[0].shape == (4, 84, 84)


def test_a_registration_is_pickled_with_its_factory() -> None:
    """A spawned process does not import the script that registered it."""
    name = "OnlyHere-v0"
    gymnasium.register(name, entry_point=Ends, max_episode_steps=7)
    try:
        content = cloudpickle.dumps(find(name))
    finally:
        del gymnasium.registry[name]
    try:
        found = cloudpickle.loads(content)
        assert found.spec.max_episode_steps == 7
        found.make().close()
    finally:
        gymnasium.registry.pop(name, None)


def test_a_missing_extra_is_bad_input() -> None:
    assert issubclass(MissingExtraError, InputError)


@pytest.mark.parametrize("name", ["ALE/Pongg-v5", "ALE/Nothing"])
def test_unknown_atari_games_give_similar_names(name: str) -> None:
    pytest.importorskip("ale_py")
    with pytest.raises(EnvironmentNotFoundError, match="similar name"):
        find(name)


class TestTrust:
    """An import path from a file is imported only with permission."""

    @pytest.fixture(autouse=True)
    def not_yet_imported(self) -> None:
        forget()

    @pytest.mark.parametrize(
        "choice",
        [
            EnvironmentChoice(f"{MODULE}:make"),
            EnvironmentChoice(f"{MODULE}:PoiseSource/Registered-v0"),
            EnvironmentChoice("CartPole-v1", wrappers=(f"{MODULE}:short",)),
        ],
    )
    def test_nothing_is_imported_without_trust(
        self, choice: EnvironmentChoice, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(UntrustedImportError, match=rf"import {MODULE}:.*trust=True"):
            env_factory_from_file(choice, None, trust=False)
        assert MODULE not in sys.modules
        assert capsys.readouterr().out == ""
        env_factory_from_file(choice, None, trust=True).make().close()
        assert capsys.readouterr().out == "imported\n"

    def test_a_plain_id_needs_no_trust(self) -> None:
        env_factory_from_file(EnvironmentChoice("CartPole-v1"), None, trust=False).make().close()

    def test_a_callable_needs_no_trust(self) -> None:
        choice = EnvironmentChoice(f"{MODULE}:make")
        assert isinstance(env_factory_from_file(choice, Ends, trust=False).make(), Ends)
        assert MODULE not in sys.modules

    def test_wrappers_named_in_a_file_need_trust(self) -> None:
        choice = EnvironmentChoice(f"{MODULE}:make", wrappers=(f"{MODULE}:short",))
        with pytest.raises(UntrustedImportError, match=f"import {MODULE}:short, as"):
            env_factory_from_file(choice, Ends, trust=False)


def test_a_module_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "poise_source_here.py").write_text(
        "from gymnasium.envs.classic_control import CartPoleEnv as Here\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    environment = find("poise_source_here:Here").make()
    assert environment.observation_space.shape == (4,)
    assert isinstance(environment.action_space.sample(), np.int64)
    sys.modules.pop("poise_source_here")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the observation_space of toy is missing or None: write self.observation_space = "),
        ((2,), "is a builtins.tuple: write self.observation_space = gymnasium.spaces.Box"),
    ],
)
def test_an_observation_space_is_required(given: Any, message: str) -> None:
    class Silent(gymnasium.Env[Any, Any]):
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self) -> None:
            if given is not None:
                self.observation_space = given

    with pytest.raises(UnsupportedSpaceError, match=re.escape(message)):
        EnvFactory("toy", Silent).make()


def test_an_action_space_is_required() -> None:
    class Silent(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Discrete(2)

        @property
        def action_space(self) -> Any:
            raise RuntimeError("reset first")

    message = "the action_space of toy raises RuntimeError: reset first: write self.action_space"
    with pytest.raises(UnsupportedSpaceError, match=message):
        EnvFactory("toy", Silent).make()


def test_spaces_are_read_once_and_pickled_if_possible():
    made: list[int] = []

    class Odd(spaces.Discrete):
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    class Environment(gymnasium.Env[Any, Any]):
        observation_space = spaces.Box(-1.0, 1.0, (2,))
        action_space: Any = spaces.Discrete(2)

        def __init__(self) -> None:
            made.append(1)

    env_factory = EnvFactory("x:Environment", Environment)
    assert (
        env_factory.spaces()
        == env_factory.spaces()
        == (Environment.observation_space, spaces.Discrete(2))
    )
    assert len(made) == 1
    assert cloudpickle.loads(cloudpickle.dumps(env_factory)).spaces() == env_factory.spaces()
    assert len(made) == 1
    assert dataclasses.replace(env_factory, name="y")._spaces == []
    Environment.action_space = Odd(2)
    other = EnvFactory("x:Environment", Environment)
    other.spaces()
    assert other.__getstate__()["_spaces"] == []
