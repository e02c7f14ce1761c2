"""The dispatcher: all observers get all events in one order, and errors stay separate."""

import json
import typing
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.learning import events
from poise.learning.event_json import event_to_json
from poise.learning.events import Event, RunStarted, Stopped, SummaryWritten, Updated
from poise.learning.journal import Journal, StopReason
from poise.observers.callback import Callbacks
from poise.observers.dispatcher import Dispatcher
from poise.observers.history import History
from poise.observers.recorder import Recorder

from ..small import rows, train

STOPPED = Stopped(StopReason.MAX_STEPS, 10)


class FakeObserver:
    """Records events, and raises from a given number of events on."""

    def __init__(self, error: BaseException | None = None, at: int = 1) -> None:
        self.error = error
        self.at = at
        self.told: list[Event] = []

    def __call__(self, seconds: float, event: Event) -> None:
        self.told.append(event)
        if self.error is not None and len(self.told) >= self.at:
            raise self.error


def dispatcher(
    folder: Path, *observers: Any, writer: Any = None, callbacks: Any = ()
) -> Dispatcher:
    recorder = Recorder(folder, {"versions": {}, "processor": "an abacus"}, Journal(), 1, 0.0)
    return Dispatcher(0.0, recorder, writer or FakeObserver(), observers, Callbacks(callbacks))


def test_an_observer_that_raises_is_named_and_removed(tmp_path: Path) -> None:
    broken, whole, callback = (
        FakeObserver(ValueError("no such thing"), at=2),
        FakeObserver(),
        FakeObserver(),
    )
    events = dispatcher(tmp_path, broken, whole, callbacks=[callback])
    for _ in range(4):
        events.emit(STOPPED)
    with pytest.warns(
        RuntimeWarning, match="without FakeObserver, which raised ValueError: no such"
    ):
        events.close()
    assert len(broken.told) == 2
    assert whole.told == callback.told == [STOPPED] * 4


def test_errors_of_the_writer_are_raised(tmp_path: Path) -> None:
    whole = FakeObserver()
    events = dispatcher(tmp_path, whole, writer=FakeObserver(OSError("full")))
    events.emit(STOPPED)
    with pytest.raises(OSError, match="full"):
        events.close()
    assert whole.told == []


def test_a_warning_that_is_an_error_is_raised(tmp_path: Path) -> None:
    events = dispatcher(tmp_path, FakeObserver(RuntimeWarning("mine")))
    events.emit(STOPPED)
    with pytest.raises(RuntimeWarning, match="mine"):
        events.close()


def test_every_callback_is_called_until_it_raises(tmp_path: Path) -> None:
    first, second = FakeObserver(KeyError("first")), FakeObserver(poise.StopTraining(), at=2)
    third = FakeObserver(ValueError("third"), at=3)
    callbacks = Callbacks([first, second, third])
    for _ in range(4):
        callbacks.tell(0.0, STOPPED)
    assert [len(one.told) for one in (first, second, third)] == [1, 2, 3]
    assert callbacks.asks_to_stop
    with pytest.raises(KeyError, match="first"):
        callbacks.raise_failure()
    callbacks.raise_failure()


@pytest.mark.usefixtures("shared_programs", "no_curves")
def test_a_run_continues_without_an_observer_that_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: History, when: float, event: Event) -> None:
        raise ZeroDivisionError("history")

    monkeypatch.setattr(History, "__call__", breaks)
    seen = FakeObserver()
    with pytest.warns(RuntimeWarning, match="without History, which raised ZeroDivisionError"):
        result = train(tmp_path / "run", max_steps=400, callbacks=[seen])
    assert result.reason is StopReason.MAX_STEPS
    assert isinstance(seen.told[-1], SummaryWritten)
    poise.replay(tmp_path / "run")


@pytest.mark.usefixtures("shared_programs", "no_curves")
def test_a_run_s_first_and_last_events(tmp_path: Path) -> None:
    folder, seen = tmp_path / "run", FakeObserver()
    result = train(folder, max_steps=400, callbacks=[seen])
    first, last = seen.told[0], seen.told[-1]
    assert isinstance(first, RunStarted)
    assert (first.folder, first.steps, first.target_return) == (folder, 0, 475.0)
    assert first.config.environment == "CartPole-v1"
    assert isinstance(last, SummaryWritten)
    assert last.summary == result.summary
    assert json.loads((folder / "summary.json").read_text()) == event_to_json(last)["summary"]
    # The rows of the metrics are the events as JSON.
    told = [event_to_json(one) for one in seen.told if not isinstance(one, Updated)]
    kinds = {row["kind"] for row in rows(folder)} - {"update"}
    written = [row for row in rows(folder) if row["kind"] in kinds]
    for row in written:
        del row["wall_time"]
    assert [one for one in told if one["kind"] in kinds] == written
    again = FakeObserver()
    poise.resume(folder, max_steps=800, callbacks=[again])
    assert isinstance(again.told[0], RunStarted)
    assert again.told[0].steps == result.summary["steps"]


@pytest.mark.usefixtures("shared_programs", "no_curves")
def test_every_event_is_json(tmp_path: Path) -> None:
    seen = FakeObserver()
    train(tmp_path / "run", max_steps=800, callbacks=[seen])
    more = [events.WorkerRestarted(1, 2, "died"), events.TrainingSolved(5, 3)]
    kinds = {}
    for event in (*seen.told, *more):
        content = json.loads(json.dumps(event_to_json(event)))
        assert kinds.setdefault(type(event), content["kind"]) == content["kind"]
    assert set(kinds) == set(typing.get_args(Event)) - {events.Rejected}
    assert len(set(kinds.values())) == len(kinds)
