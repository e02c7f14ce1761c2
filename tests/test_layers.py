"""Folders are layers: a file imports only from its own folder and from layers below it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "poise"

LAYERS = (
    (
        *("argument_names", "batching", "config", "errors", "ignored_parts", "literals"),
        *("number_format", "other_trainers", "safe_open", "settings", "trajectory"),
        *("space_parts", "user_warnings", "validation"),
    ),
    ("presets",),
    ("maths",),
    ("agent",),
    ("envs",),
    ("learning",),
    ("launchers",),
    ("storage",),
    ("evaluation",),
    ("observers",),
    ("reports",),
    ("training",),
    ("replaying",),
    ("bench",),
    ("doctor",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""Layers from bottom to top."""
FORBIDDEN = {
    ("envs", "agent"): "what happens must not know what decides",
    ("maths", "config"): "maths takes arrays and scalars",
    ("maths", "errors"): "maths takes arrays and scalars",
    ("maths", "batching"): "maths knows no spaces",
    ("maths", "space_parts"): "maths knows no spaces",
}
"""Imports of a lower layer that are forbidden nevertheless."""
MAY_IMPORT_LATE = ("commands/", "__init__.py")
"""Late imports are allowed here: JAX takes most of a second to import, and may not be needed."""
KNOWN_BREACHES = {}
"""Late imports of poise modules that violate the rule; the list must only shrink."""

HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}


class Arrow(NamedTuple):
    """An import of one poise module by another."""

    file: str
    line: int
    module: str
    """Name without the leading ``poise``; empty for the package itself."""
    late: bool

    @property
    def rooms(self) -> tuple[str, str]:
        return room_of(self.file), self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports poise.{self.module}"


def room_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def files() -> list[str]:
    return sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


def is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imported(node: ast.AST, file: str) -> list[str]:
    """Return the poise modules that a statement imports, without the leading ``poise``."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = ["poise", *file.split("/")[:-1]]
            base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")]).strip(
                "."
            )
        # ``from poise.envs import hosted`` names a module, ``import EnvFactory`` a class in one.
        names = []
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            names.append(inner if is_module(inner.removeprefix("poise.")) else base)
    else:
        return []
    ours = [name for name in names if name == "poise" or name.startswith("poise.")]
    return sorted({name.removeprefix("poise").removeprefix(".") for name in ours})


def arrows_of(source: str, file: str) -> Iterator[Arrow]:
    def walk(node: ast.AST, late: bool) -> Iterator[Arrow]:
        for module in imported(node, file):
            yield Arrow(file, node.lineno, module, late)  # type: ignore[attr-defined]
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, late or inside)

    yield from walk(ast.parse(source), late=False)


def problem(arrow: Arrow) -> str | None:
    """The problem with an import, or None."""
    here, there = arrow.rooms
    if arrow.file == "__init__.py":
        return None  # the facade, which shows what is in all rooms
    if there not in HEIGHT:
        return f"{arrow}: the package itself stands above all rooms"
    if arrow.rooms in FORBIDDEN:
        return f"{arrow}: {FORBIDDEN[arrow.rooms]}"
    if HEIGHT[there] > HEIGHT[here]:
        return f"{arrow}: {there} is above {here}"
    if HEIGHT[there] == HEIGHT[here] and here != there and HEIGHT[here] > 0:
        return f"{arrow}: {there} is beside {here}"
    if arrow.late and not arrow.file.startswith(MAY_IMPORT_LATE):
        return f"{arrow} inside a function"
    return None


def test_every_file_is_in_a_room() -> None:
    strangers = [file for file in files() if room_of(file) not in {*HEIGHT, "__init__"}]
    assert strangers == []
    assert {room_of(file) for file in files()} >= set(HEIGHT)


@pytest.mark.parametrize("file", files())
def test_imports_point_down(file: str) -> None:
    arrows = [arrow for arrow in arrows_of((SOURCE / file).read_text(), file) if problem(arrow)]
    known = KNOWN_BREACHES.get(file, [])
    late = {arrow.module for arrow in arrows if arrow.late}
    assert late >= set(known), "no breach any more: take it off the list"
    assert [problem(arrow) for arrow in arrows if arrow.module not in known] == []


def test_imports_are_found() -> None:
    """The test must be able to detect forbidden imports: it finds some known imports."""
    arrows = {
        arrow.rooms for file in files() for arrow in arrows_of((SOURCE / file).read_text(), file)
    }
    expected = {
        ("agent", "maths"),
        ("learning", "agent"),
        ("learning", "envs"),
        ("launchers", "learning"),
        ("training", "launchers"),
        ("commands", "training"),
        ("cli", "commands"),
    }
    assert expected <= arrows


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("maths/returns.py", "from poise.config import TrainConfig"),
        ("maths/returns.py", "import poise.errors"),
        ("maths/returns.py", "from poise.agent import agent"),
        ("agent/agent.py", "from poise.envs.jax_envs import CompiledWorld"),
        ("agent/agent.py", "from poise import envs"),
        ("envs/jax_envs.py", "from poise.agent.agent import Agent"),
        ("envs/twins/cartpole.py", "from ...agent.agent import Agent"),
        ("envs/jax_envs.py", "from ..learning import journal"),
        ("learning/parameter_server.py", "if True:\n    import poise.evaluation.evaluator"),
        (
            "learning/parameter_server.py",
            "try:\n    import numpy, poise.launchers.threads\nfinally:\n    pass",
        ),
        ("learning/parameter_server.py", "import poise"),
        ("learning/parameter_server.py", "from poise import train"),
        ("launchers/threads.py", "def f():\n    from poise.training import train"),
        ("learning/parameter_server.py", "def f():\n    from poise.maths import returns"),
        ("errors.py", "from poise.maths import returns"),
        ("evaluation/api.py", "from poise.cli import main"),
    ],
)
def test_wrong_imports_are_refused(file: str, source: str) -> None:
    assert [problem(arrow) for arrow in arrows_of(source, file)] != []
    assert all(problem(arrow) for arrow in arrows_of(source, file))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("agent/agent.py", "from poise.maths.returns import normalize"),
        ("envs/jax_envs.py", "from poise.envs.reward_shaping import RewardShaping"),
        ("envs/twins/cartpole.py", "from ..reward_shaping import RewardShaping"),
        ("learning/parameter_server.py", "def f():\n    import matplotlib"),
        ("config.py", "from poise.errors import ConfigError"),
        ("commands/train.py", "def f():\n    from poise.training.train import train"),
        ("__init__.py", "def f():\n    from poise.training.train import train"),
    ],
)
def test_right_imports_are_allowed(file: str, source: str) -> None:
    assert [problem(arrow) for arrow in arrows_of(source, file) if problem(arrow)] == []
