"""Messages name arguments as flags on the command line, and as arguments in Python."""

import dataclasses
import typing

import pytest

from poise.argument_names import as_flags, nearest, spelled
from poise.cli import main
from poise.config import TrainConfig
from poise.errors import ConfigError, WorkerError
from poise.other_trainers import ALIASES

SAID = [
    ("--max-steps is 0, but must be 1 or more", "max_steps is 0, but must be 1 or more"),
    ("as asked for (--worker-timeout); saved", "as asked for (worker_timeout); saved"),
    ("--workers 1 --envs-per-worker 1 needs one", "workers=1, envs_per_worker=1 needs one"),
    ("try --entropy-coefficient 0.01, or", "try entropy_coefficient=0.01, or"),
    ("at --learning-rate 1e-3.", "at learning_rate=1e-3."),
    ("use --launcher serial or processes (why)", 'use launcher="serial" or "processes" (why)'),
    ("use --launcher threads, or", 'use launcher="threads", or'),
    ("--launcher threads makes and steps", 'launcher="threads" makes and steps'),
    ("--world copies steps the environment", 'world="copies" steps the environment'),
    ("--world is 'vector', but", "world is 'vector', but"),
    ("and --normalize-observations on.", 'and normalize_observations="on".'),
    ("pass --trust if you trust it", "pass trust=True if you trust it"),
    ("--trust is 5, but must be", "trust is 5, but must be"),
    ("with --no-normalize-advantages.", "with normalize_advantages=False."),
    ("choose another --run-dir, or", "choose another run_dir, or"),
    ("--selection-episodes and --copies", "selection_episodes and copies"),
    ("(--hidden-sizes 1,000 units)", "(hidden_sizes=1,000 units)"),
    # Flags of other programs stay unchanged.
    ("pip install --upgrade ale-py", "pip install --upgrade ale-py"),
    ("it said: --fullscreen --no-sound", "it said: --fullscreen --no-sound"),
    ("a--workers b --workers-per-node", "a--workers b --workers-per-node"),
    ("nothing - or -- at all", "nothing - or -- at all"),
]


@pytest.mark.parametrize(("flags", "python"), SAID)
def test_a_message_names_arguments_for_its_reader(flags: str, python: str) -> None:
    assert spelled(flags) == python
    assert spelled(python) == python
    with as_flags():
        assert spelled(flags) == flags
    assert spelled(flags) == python


@pytest.mark.parametrize("field", dataclasses.fields(TrainConfig), ids=lambda field: field.name)
def test_every_setting_is_known(field: dataclasses.Field[typing.Any]) -> None:
    flag = "--" + field.name.replace("_", "-")
    assert spelled(f"{flag} is wrong") == f"{field.name} is wrong"
    assert spelled(f"({flag}).").startswith(f"({field.name}")


def test_an_error_names_arguments_for_its_reader() -> None:
    error = ConfigError("--max-steps is 0")
    worker = WorkerError(1, "Here-v0", 7, "it wants --launcher serial")
    assert str(error) == "max_steps is 0"
    assert str(worker).endswith('it wants launcher="serial"')
    with as_flags():
        assert str(error) == "--max-steps is 0"
        assert str(worker).endswith("it wants --launcher serial")
        with as_flags():
            pass
        assert str(error) == "--max-steps is 0"


def test_the_command_line_names_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--max-steps=0"]) == 2
    assert capsys.readouterr().err.startswith("poise: --max-steps is 0, but must be")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_step", "max_steps"),
        ("learningrate", "learning_rate"),
        ("lr", "learning_rate"),
        ("gamma", "discount"),
        ("total_timesteps", "max_steps"),
        ("n_envs", "envs_per_worker"),
        ("xyzzy", None),
    ],
)
def test_the_nearest_name(name: str, meant: str | None) -> None:
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    assert nearest(name, names) == meant


def test_names_of_other_trainers_are_known() -> None:
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    ours = {one.partition(" ")[0].removeprefix("no-").replace("-", "_") for one in ALIASES.values()}
    of_commands = {"episodes", "output", "policy", "render", "run_dir", "tensorboard"}
    assert ours <= names | of_commands
    assert names.isdisjoint(one.replace("-", "_") for one in ALIASES)
