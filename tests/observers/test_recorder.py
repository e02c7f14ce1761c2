"""The recorder: every event is recorded correctly, from any thread, and none is lost."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.learning.algorithms.a3c import A3C
from poise.learning.evaluation_result import Score
from poise.learning.event_json import score_to_json
from poise.learning.events import (
    EpisodeFinished,
    Event,
    Stopped,
    Updated,
)
from poise.learning.journal import Journal, Record, RecordKind, StopReason, read_journal
from poise.observers.callback import Callbacks
from poise.observers.dispatcher import Dispatcher
from poise.observers.recorder import Recorder

METRICS = dict(zip(A3C.metrics, (1.0, 2.0, 3.0, 0.5, 4.0), strict=True))
HEADER = {"versions": {}, "processor": "an abacus"}


def updated(number: int, worker: int = 0) -> Updated:
    return Updated(worker, number, 10 * number, METRICS, 1, 1e-3)


def finished(number: int) -> EpisodeFinished:
    return EpisodeFinished(
        worker=1,
        episode=number,
        steps=10 * number,
        episode_return=7.5,
        length=8,
        moving_average=7.0,
        loss=0.25,
    )


class RecorderHarness:
    """A recorder in a folder, and the events that a callback received."""

    def __init__(self, folder: Path, record_every: int = 3) -> None:
        self.folder = folder
        self.journal = Journal()
        self.seen: list[tuple[float, Event]] = []
        started = time.monotonic()
        self.recorder = Recorder(folder, HEADER, self.journal, record_every, started)
        self.dispatcher = Dispatcher(
            started,
            self.recorder,
            lambda when, event: None,
            callbacks=Callbacks([lambda when, event: self.seen.append((when, event))]),
        )

    @property
    def rows(self) -> list[dict[str, object]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RecorderHarness]:
    desk = RecorderHarness(tmp_path)
    yield desk
    desk.dispatcher.close()


def test_nothing_is_written_before_the_pump(desk: RecorderHarness):
    desk.dispatcher.emit(finished(1))
    assert desk.rows == []
    assert desk.seen == []
    desk.dispatcher.pump()
    assert len(desk.rows) == len(desk.seen) == 1
    desk.dispatcher.pump()
    assert len(desk.rows) == 1


def test_an_episode_s_row(desk: RecorderHarness):
    desk.dispatcher.emit(finished(4))
    desk.dispatcher.pump()
    [row] = desk.rows
    assert row.pop("wall_time") == pytest.approx(desk.seen[0][0], abs=1e-6)
    assert row == {
        "kind": "episode",
        "episode": 4,
        "steps": 40,
        "worker": 1,
        "return": 7.5,
        "length": 8,
        "moving_average": 7.0,
        "loss": 0.25,
    }


def test_rows_of_updates_are_thinned_out_but_callbacks_get_all(desk: RecorderHarness):
    for number in range(1, 11):
        desk.dispatcher.emit(updated(number))
    desk.dispatcher.pump()
    assert [row["update"] for row in desk.rows] == [3, 6, 9]
    assert {"worker", "loss", "policy_loss", "value_loss", "entropy"} <= desk.rows[0].keys()
    assert {"gradient_norm", "staleness", "learning_rate"} <= desk.rows[0].keys()
    assert [event for _, event in desk.seen] == [updated(number) for number in range(1, 11)]


def test_the_journal_is_written_too(desk: RecorderHarness):
    records = [Record(RecordKind.JOIN, 0, 0, 0, 0, 0), Record(RecordKind.STOP, 5, 0, 0, 0, 0)]
    desk.journal.append(records[0])
    desk.dispatcher.pump()
    path = desk.folder / "journal"
    assert read_journal(path).records == records[:1]
    assert path.stat().st_size == desk.recorder.journal_bytes(1)
    desk.journal.append(records[1])
    desk.dispatcher.pump()
    assert read_journal(path).records == records
    assert read_journal(path).header == HEADER


def test_closing_writes_the_rest(tmp_path: Path):
    desk = RecorderHarness(tmp_path)
    desk.dispatcher.emit(finished(1))
    desk.dispatcher.emit(Stopped(StopReason.MAX_STEPS, 10))
    desk.dispatcher.close()
    assert len(desk.rows) == 1
    assert len(desk.seen) == 2


def test_events_of_many_threads_are_all_kept(desk: RecorderHarness):
    def emit(worker: int) -> None:
        for number in range(500):
            desk.dispatcher.emit(updated(3 * number, worker))

    threads = [threading.Thread(target=emit, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        desk.dispatcher.pump()
    desk.dispatcher.pump()
    for worker in range(4):
        mine = [row["update"] for row in desk.rows if row["worker"] == worker]
        assert mine == [3 * number for number in range(500)]


def test_files_are_never_overwritten(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("mine")
    with pytest.raises(FileExistsError):
        RecorderHarness(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine"


def test_undefined_values_of_a_score_are_null():
    nan, inf = float("nan"), float("inf")
    found = score_to_json(Score(1.0, nan, -inf, inf, 1.0, 1.0, 1, True, 0, 9))
    assert found["standard_error"] is found["low"] is found["high"] is None
    assert (found["mean"], found["episodes"], found["greedy"]) == (1.0, 1, True)
    json.dumps(found, allow_nan=False)
