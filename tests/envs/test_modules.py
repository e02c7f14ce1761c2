"""Modules by name and by file."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.config import EnvironmentChoice
from poise.envs.env_factory import find_env_factory
from poise.envs.modules import split_path
from poise.errors import EnvironmentNotFoundError

SMALL = """
from gymnasium.envs.classic_control import CartPoleEnv as Mine
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("CartPole-v1", ("CartPole-v1", "", "")),
        ("ALE/Pong-v5", ("ALE/Pong-v5", "", "")),
        ("module:Class.make", ("module", ":", "Class.make")),
        ("./a.py:Class", ("./a.py", ":", "Class")),
        ("odd:place/a.py:Class", ("odd:place/a.py", ":", "Class")),
        ("package.py_things:Class", ("package.py_things", ":", "Class")),
    ],
)
def test_an_import_path_in_parts(path: str, parts: tuple[str, str, str]) -> None:
    assert split_path(path) == parts


@pytest.mark.parametrize("place", ["", "./", "below/", "ABSOLUTE/", "../", "odd:place/"])
def test_a_class_in_a_file(tmp_path: Path, place: str) -> None:
    name = f"in_a_file_{'_'.join(part for part in place if part.isalnum())}"
    folder = Path(place.replace("ABSOLUTE", str(tmp_path)))
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / f"{name}.py"
    file.write_text(SMALL)
    try:
        written = f"{place}{name}.py:Mine".replace("ABSOLUTE", str(tmp_path))
        env_factory = find_env_factory(EnvironmentChoice(written))
        assert env_factory.name == written
        env_factory.make().close()
        # Objects pickled by reference are imported by this name in other processes.
        assert env_factory.factory is sys.modules[name].Mine
    finally:
        file.unlink()


def test_an_id_that_a_file_registers(tmp_path: Path) -> None:
    (tmp_path / "registers.py").write_text(
        "import gymnasium\ngymnasium.register('Filed-v0', "
        "'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=7)\n"
    )
    env_factory = find_env_factory(EnvironmentChoice("./registers.py:Filed-v0"))
    assert env_factory.identity == "Filed-v0"
    environment = env_factory.make()
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == 7
    environment.close()


def test_wrappers_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "wraps.py").write_text(
        "import gymnasium\nclass Wrap(gymnasium.Wrapper):\n    wrapped = True\n"
    )
    environment = find_env_factory(
        EnvironmentChoice("CartPole-v1", (), ("./wraps.py:Wrap",))
    ).make()
    assert environment.get_wrapper_attr("wrapped") is True
    environment.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./missing.py:Mine", ["no file ./missing.py"]),
        ("./there.py", ["is a file name", "./there.py:MyEnv"]),
        ("there.py", ["is a file name", "there.py:MyEnv"]),
        ("./there.py:Other", ["./there.py", "has no Other"]),
        ("./there.py:", ["has no"]),
        ("./has-hyphens.py:Mine", ["has-hyphens", "rename the file"]),
        ("./json.py:Mine", ["another module 'json'", "rename the file"]),
        ("./sys.py:Mine", ["another module 'sys'", "rename the file"]),
        ("./raises.py:Mine", ["cannot be imported", "ZeroDivisionError"]),
        ("./folder.py:Mine", ["no file ./folder.py"]),
    ],
)
def test_errors_in_files_are_described(tmp_path: Path, name: str, words: list[str]) -> None:
    for file in ("there", "has-hyphens", "json", "sys"):
        (tmp_path / f"{file}.py").write_text(SMALL)
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(EnvironmentNotFoundError) as raised:
        find_env_factory(EnvironmentChoice(name))
    for word in words:
        assert word in str(raised.value)
