"""Training with ``keep=False``, which leaves no files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.errors import ConfigError, DeadlineError, InputError, RunFolderError
from poise.launchers.launcher import Launch
from poise.launchers.serial import Serial
from poise.learning.events import Event, Updated
from poise.learning.parameter_server import ParameterServer

from ..small import ENDLESS, SMALL, TIMES, summary, train

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Check that no file is left, neither in the current folder nor among temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield tmp_path / "temporary"
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


def passing(**settings: Any) -> poise.TrainResult:
    return poise.train(**{**SMALL, **settings}, preset="none", keep=False)


@pytest.mark.parametrize("launcher", ["serial", "threads"])
def test_nothing_is_left_but_the_result(launcher: str) -> None:
    result = passing(launcher=launcher)
    assert result.folder is None
    assert result.summary["steps"] >= SMALL["max_steps"]
    assert "no files kept" in repr(result)
    assert poise.evaluate(result.policy, episodes=2).episodes == 2


def test_the_result_is_that_of_a_kept_run(serial_run: Path) -> None:
    result = passing()
    kept = summary(serial_run)
    for name in kept.keys() - TIMES:
        assert result.summary[name] == kept[name], name
    assert np.array_equal(result.policy.parameters, poise.load(serial_run).parameters)


def test_while_it_runs_its_files_are_temporary(nothing_is_left: Path) -> None:
    seen: set[str] = set()

    def look(when: float, event: Event) -> None:
        seen.update(path.name for path in nothing_is_left.rglob("*"))

    passing(callbacks=[look])
    assert {"config.json", "journal", "metrics.jsonl"} <= seen


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_run_that_fails_or_is_interrupted(error: type[BaseException]) -> None:
    def fail(when: float, event: Event) -> None:
        if isinstance(event, Updated):
            raise error

    with pytest.raises(error):
        passing(**ENDLESS, callbacks=[fail])


def test_a_worker_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(ParameterServer, "receive", fail)
    with pytest.raises(ZeroDivisionError):
        passing()


def test_a_run_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise InputError("put the call under a guard")

    monkeypatch.setattr(Serial, "run", refuse)
    with pytest.raises(InputError, match="guard"):
        passing()


def test_a_process_whose_main_thread_hangs(
    monkeypatch: pytest.MonkeyPatch, nothing_is_left: Path
) -> None:
    """Its main thread hangs forever: another thread ends the process, and nothing else is done."""
    left: list[BaseException] = []
    monkeypatch.setattr("poise.training.training_run.leave", left.append)
    run = Serial.run

    def hang(serial: Serial, launch: Launch) -> None:
        run(serial, launch)
        assert list(nothing_is_left.iterdir())
        launch.supervision.give_up(DeadlineError("hangs"))
        assert not list(nothing_is_left.iterdir())
        raise SystemExit

    monkeypatch.setattr(Serial, "run", hang)
    with pytest.raises(SystemExit):
        passing()
    assert len(left) == 1


@pytest.mark.parametrize("given", [{"run_dir": "run"}, {"tensorboard": True}])
def test_options_about_files_need_a_folder_that_is_kept(given: dict[str, Any]) -> None:
    [name] = given
    with pytest.raises(ConfigError, match=rf"^{name}(=True)? is about files that are kept"):
        passing(**given)


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(RunFolderError, match="no folder for temporary files"):
        passing()


def test_a_kept_run_is_where_it_says(tmp_path: Path) -> None:
    result = train(tmp_path / "temporary" / "run", max_steps=100)
    assert result.folder == tmp_path / "temporary" / "run"
    assert f"in {result.folder})" in repr(result)
    poise.remove_run(result.folder)
