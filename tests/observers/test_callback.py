"""Exceptions of a user's callback: the run is saved, and the callback is not called again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.errors import ConfigError, EnvironmentNotFoundError, RunWriteError
from poise.learning.events import (
    CheckpointReady,
    Evaluated,
    Event,
    RunStarted,
    Stopped,
    SummaryWritten,
    Updated,
)
from poise.learning.journal import RecordKind, StopReason, read_journal
from poise.learning.parameter_server import ParameterServer
from poise.storage.run_folder import RUN_FILES

from ..small import ENDLESS, SMALL, rows, summary, train

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")

LAUNCHERS = pytest.mark.parametrize("launcher", ["serial", "threads"])


class Listener:
    """Raises at every event, beginning with a wanted one.

    Attributes:
        told: the events that it received.
    """

    def __init__(self, error: BaseException, wanted: Callable[[Event], bool]) -> None:
        self.error = error
        self.wanted = wanted
        self.begun = False
        self.told: list[Event] = []

    def __call__(self, when: float, event: Event) -> None:
        self.told.append(event)
        self.begun = self.begun or self.wanted(event)
        if self.begun:
            raise self.error


class Gone(Exception):
    pass


def late(event: Event) -> bool:
    return isinstance(event, Updated) and event.update >= 20


def require_saved(folder: Path, failure: str | None) -> dict[str, Any]:
    found = summary(folder)
    assert found["failure"] == failure
    assert set(RUN_FILES) <= {path.name for path in folder.iterdir()}
    assert list((folder / "checkpoints").iterdir())
    report = poise.replay(folder)
    assert report.updates == found["updates"]
    assert report.compared == ("final.safetensors", "best.safetensors")[: len(report.compared)]
    assert "final.safetensors" in report.compared
    assert len(rows(folder, "episode")) == found["episodes"]
    return found


@LAUNCHERS
def test_a_callback_that_always_raises_loses_nothing(tmp_path: Path, launcher: str) -> None:
    listener = Listener(Gone("gone"), late)
    folder = tmp_path / "run"
    with pytest.raises(Gone, match="gone") as caught:
        train(folder, **ENDLESS, launcher=launcher, callbacks=[listener])
    assert caught.value is listener.error
    assert late(listener.told[-1])
    assert not any(late(event) for event in listener.told[:-1])
    assert require_saved(folder, "Gone")["stopped"] == "failed"
    steps = summary(folder)["steps"]
    assert poise.resume(folder, max_steps=steps + 200).summary["steps"] >= steps + 200
    poise.replay(folder)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        # These must not be handled like poise's own errors of the same class.
        ConfigError("--max-steps is mine"),
        EnvironmentNotFoundError("mine"),
        FileNotFoundError(2, "no such file", "mine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_its_exception_is_raised_unchanged(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        train(tmp_path / "run", **ENDLESS, callbacks=[Listener(error, late)])
    assert caught.value is error
    assert not isinstance(caught.value, RunWriteError)
    require_saved(tmp_path / "run", type(error).__name__)


def test_a_callback_that_raises_at_the_first_event(tmp_path: Path) -> None:
    listener = Listener(ConfigError("mine"), lambda event: True)
    with pytest.raises(ConfigError, match="mine"):
        train(tmp_path / "run", callbacks=[listener])
    [event] = listener.told
    assert isinstance(event, RunStarted)
    found = summary(tmp_path / "run")
    assert (found["stopped"], found["failure"]) == ("failed", "ConfigError")
    poise.replay(tmp_path / "run")


@LAUNCHERS
def test_a_callback_that_raises_during_an_evaluation(
    tmp_path: Path, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the serial launcher, it is called between the evaluation's steps."""
    monkeypatch.setattr("poise.evaluation.supervision.PUMP_INTERVAL", 0.0)
    listener = Listener(Gone(), lambda event: isinstance(event, Updated))
    with pytest.raises(Gone):
        train(
            tmp_path / "run",
            launcher=launcher,
            evaluation_interval=1,
            selection_episodes=300,
            **ENDLESS,
            callbacks=[listener],
        )
    require_saved(tmp_path / "run", "Gone")


def test_a_callback_that_raises_after_the_end(tmp_path: Path) -> None:
    """The run ended normally and is saved, but the callback's error is still raised."""
    listener = Listener(Gone(), lambda event: isinstance(event, Stopped))
    with pytest.raises(Gone):
        train(tmp_path / "run", callbacks=[listener])
    found = require_saved(tmp_path / "run", "Gone")
    assert found["stopped"] == "max_steps"
    assert found["evaluation"]["episodes"] == SMALL["verification_episodes"]
    assert found["random_baseline"] is not None


def test_it_does_not_hide_a_failure_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = ParameterServer.receive

    def failing(server: ParameterServer, *arguments: Any) -> Any:
        if server.version == 10:
            raise ZeroDivisionError
        return receive(server, *arguments)

    monkeypatch.setattr(ParameterServer, "receive", failing)
    listener = Listener(Gone(), lambda event: isinstance(event, Stopped))
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "run", callbacks=[listener])
    assert isinstance(listener.told[-1], Stopped)
    require_saved(tmp_path / "run", "ZeroDivisionError")


class TestStopTraining:
    @LAUNCHERS
    @pytest.mark.parametrize("error", [poise.StopTraining, poise.StopTraining("enough")])
    def test_it_ends_the_run_with_a_score(self, tmp_path: Path, launcher: str, error: Any) -> None:
        listener = Listener(error, late)
        result = train(
            tmp_path / "run",
            **ENDLESS,
            evaluation_interval=10**8,
            launcher=launcher,
            callbacks=[listener],
        )
        assert result.reason == StopReason.CALLBACK
        assert late(listener.told[-1])
        assert not any(late(event) for event in listener.told[:-1])
        found = require_saved(result.folder, None)
        assert found["stopped"] == "callback"
        assert found["evaluation"]["episodes"] == SMALL["verification_episodes"]
        assert found["random_baseline"] is not None
        # The final evaluation is the only one of what was learned.
        [evaluation] = rows(result.folder, "evaluation")
        assert evaluation["steps"] == found["steps"]
        journal = read_journal(result.folder / "journal")
        assert (journal.records[-1].kind, journal.records[-1].detail) == (RecordKind.STOP, 10)

    def test_the_run_can_be_resumed(self, tmp_path: Path) -> None:
        listener = Listener(poise.StopTraining(), late)
        stopped = train(tmp_path / "run", **ENDLESS, callbacks=[listener])
        assert stopped.reason == StopReason.CALLBACK
        told: list[Event] = []
        result = poise.resume(
            tmp_path / "run",
            max_steps=stopped.summary["steps"] + 200,
            callbacks=[lambda when, event: told.append(event)],
        )
        assert result.reason == StopReason.MAX_STEPS
        *_, stop, end = (event for event in told if not isinstance(event, CheckpointReady))
        assert isinstance(stop, Stopped)
        assert isinstance(end, SummaryWritten)
        assert poise.replay(stopped.folder).updates == result.summary["updates"]

    def test_at_an_evaluation(self, tmp_path: Path) -> None:
        listener = Listener(poise.StopTraining(), lambda event: isinstance(event, Evaluated))
        result = train(tmp_path / "run", **ENDLESS, callbacks=[listener])
        assert result.reason == StopReason.CALLBACK
        require_saved(result.folder, None)

    def test_after_the_end_it_changes_nothing(self, tmp_path: Path) -> None:
        listener = Listener(poise.StopTraining(), lambda event: isinstance(event, Stopped))
        result = train(tmp_path / "run", callbacks=[listener])
        assert result.reason == StopReason.MAX_STEPS
        assert result.summary["failure"] is None


def test_a_run_solved_by_the_evaluation_at_its_end_replays(tmp_path: Path) -> None:
    """The callback stops the run, and its last evaluation solves it: the journal says solved."""
    result = train(
        tmp_path / "run",
        max_steps=10**9,
        evaluation_interval=10**8,
        target_return=-100.0,
        callbacks=[Listener(poise.StopTraining(), late)],
    )
    assert result.reason == StopReason.SOLVED
    assert result.solved
    poise.replay(result.folder)
