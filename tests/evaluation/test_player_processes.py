"""Processes that play a share of an evaluation: who plays what, and what happens if one fails."""

import dataclasses
import functools
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle
import numpy as np
import pytest

from poise.evaluation import player_processes
from poise.evaluation.player_processes import PlayerProcess, PlayerProcesses, SharedEpisodes
from poise.launchers.evaluation_helpers import Task
from poise.learning.evaluation_result import Episode
from poise.trajectory import Snapshot

DEADLINE = 120.0
"""Real seconds after which a test fails. No result depends on it."""


def task(count: int) -> Task:
    return Task(Snapshot(np.int32(0), np.zeros(2, np.float32), ()), range(100, 100 + count))


def share(
    processes: PlayerProcesses, task: Task, over: Callable[[int, Episode], None]
) -> SharedEpisodes:
    """All episodes of an evaluation."""
    return SharedEpisodes(processes, task, list(enumerate(task.seeds)), over)


def episode(seed: int) -> Episode:
    """The result of an episode depends only on its seed."""
    return Episode(float(seed), 1, False)


class FakeProcess(PlayerProcess):
    """A process that plays when the test says so."""

    def __init__(self) -> None:
        self.fault = self.end = ""
        self.given: list[list[tuple[int, int]]] = []
        self.ready = True
        self.arrived: list[tuple[int, int, Episode]] = []

    @property
    def is_idle(self) -> bool:
        return self.ready

    def give(self, task: Task, episodes: Sequence[tuple[int, int]]) -> int:
        self.ready = False
        self.given.append(list(episodes))
        return len(self.given)

    def play(self, count: int | None = None) -> None:
        played = self.given[-1][:count]
        self.arrived += [(len(self.given), number, episode(seed)) for number, seed in played]

    def results(self) -> Iterator[tuple[int, int, Episode]]:
        while self.arrived:
            yield self.arrived.pop(0)
        self.fault = self.end


class Fakes(PlayerProcesses):
    """Fake processes."""

    def __init__(self, *processes: FakeProcess) -> None:
        self.processes = list(processes)
        self.seconds_left: list[float] = []

    def start_if_worthwhile(self, seconds_left: float) -> None:
        self.seconds_left.append(seconds_left)

    @property
    def going(self) -> Sequence[PlayerProcess]:
        return [one for one in self.processes if not one.fault]


class Clock:
    """A clock that only the test moves."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(player_processes, "time", clock)
    return clock


@dataclasses.dataclass
class Evaluation:
    """An evaluation of some episodes, and the results so far."""

    shared: SharedEpisodes
    clock: Clock
    found: dict[int, Episode]

    def play_here(self, most: int = 10**9) -> int:
        """Play episodes in this process; return how many there were."""
        for played in range(most):
            self.clock.now += 1.0
            following = self.shared.next()
            if following is None:
                return played
            number, seed = following
            self.shared.over(number, episode(seed))
        return most

    def play_to_the_end(self) -> int:
        played = self.play_here()
        while self.shared.wait(lambda: None):
            played += self.play_here()
        return played


@pytest.fixture
def begin(clock: Clock) -> Callable[..., Evaluation]:
    def begin(count: int, processes: PlayerProcesses) -> Evaluation:
        found: dict[int, Episode] = {}

        def over(number: int, episode: Episode) -> None:
            assert number not in found
            found[number] = episode

        return Evaluation(share(processes, task(count), over), clock, found)

    return begin


def expected(count: int) -> dict[int, Episode]:
    return {number: episode(100 + number) for number in range(count)}


def test_each_process_gets_an_equal_share(begin: Callable[..., Evaluation]) -> None:
    first, second = FakeProcess(), FakeProcess()
    evaluation = begin(9, Fakes(first, second))
    assert [len(one.given[0]) for one in (first, second)] == [3, 3]
    first.play()
    second.play()
    assert evaluation.play_to_the_end() == 3
    assert evaluation.found == expected(9)


def test_one_that_becomes_ready_later_gets_a_share_of_the_rest(
    begin: Callable[..., Evaluation],
) -> None:
    process = FakeProcess()
    process.ready = False
    evaluation = begin(10, Fakes(process))
    assert evaluation.play_here(4) == 4
    process.ready = True
    evaluation.play_here(1)
    assert len(process.given[0]) == 3
    process.play()
    assert evaluation.play_to_the_end() == 2
    assert evaluation.found == expected(10)


def test_what_a_failed_process_has_not_played_is_played_here(
    begin: Callable[..., Evaluation],
) -> None:
    process = FakeProcess()
    evaluation = begin(10, Fakes(process))
    process.play(2)
    evaluation.play_here(1)
    process.end = "it has ended"
    with pytest.warns(RuntimeWarning, match="the same score.*it has ended"):
        evaluation.play_to_the_end()
    assert evaluation.found == expected(10)


def test_a_silent_process_is_waited_for_as_long_as_the_evaluation_took(
    begin: Callable[..., Evaluation], clock: Clock
) -> None:
    process = FakeProcess()
    evaluation = begin(10, Fakes(process))
    assert evaluation.play_here() == 5
    took, before = clock.now - 100.0, clock.now
    assert evaluation.shared.wait(lambda: None)
    assert took <= clock.now - before <= took + 1.0
    # What it still sends is too late.
    process.play()
    assert evaluation.play_to_the_end() == 5
    assert evaluation.found == expected(10)


def test_results_of_an_aborted_evaluation_are_ignored(begin: Callable[..., Evaluation]) -> None:
    process = FakeProcess()
    begin(4, Fakes(process))
    process.play()
    evaluation = begin(4, Fakes(process))
    process.ready = True
    assert evaluation.play_to_the_end() == 4
    assert evaluation.found == expected(4)


def test_an_abort_ends_the_wait(begin: Callable[..., Evaluation]) -> None:
    def abort() -> None:
        raise KeyboardInterrupt

    evaluation = begin(2, Fakes(FakeProcess()))
    evaluation.play_here()
    with pytest.raises(KeyboardInterrupt):
        evaluation.shared.wait(abort)


def test_how_long_the_rest_will_take_is_estimated(begin: Callable[..., Evaluation]) -> None:
    processes = Fakes()
    evaluation = begin(10, processes)
    assert processes.seconds_left == []
    evaluation.play_here(3)
    # Two episodes were finished after three seconds, and seven are left.
    assert processes.seconds_left[-1] == pytest.approx(1.5 * 8)


def test_a_short_rest_starts_nothing() -> None:
    processes = PlayerProcesses(b"", 1)
    processes.start_if_worthwhile(player_processes.WORTHWHILE_SECONDS - 0.1)
    assert not processes.going


# --- Real processes


@dataclasses.dataclass
class RealPlayer:
    """Plays episodes whose results depend only on their seeds, or fails."""

    does: str = ""

    def prepare(self, snapshot: Any, sampling: Any, step_limit: int | None) -> None:
        if self.does == "raises":
            raise ValueError("the pole\nbroke")

    def provide(self, count: int, alive: Callable[[], None]) -> int:
        return count

    def play(self, waiting: Any, over: Any, alive: Callable[[], None]) -> None:
        for following in iter(waiting, None):
            if self.does == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.does == "hangs":
                threading.Event().wait()
            over(following[0], episode(following[1]))

    def describe_activity(self) -> str:
        return ""

    def open(self, alive: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        pass


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def processes(request: Any) -> Iterator[PlayerProcesses]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    payload = cloudpickle.dumps(functools.partial(RealPlayer, request.param))
    processes = PlayerProcesses(payload, 1)
    processes.start_if_worthwhile(1e9)
    yield processes
    processes.close()


def evaluate(processes: PlayerProcesses, count: int, given: Task | None = None) -> tuple[int, Any]:
    """Play episodes here and there; return how many were played here, and all results."""
    (process,) = processes.going
    until(lambda: list(process.results()) == [] and process.is_idle)
    found: dict[int, Episode] = {}
    shared = share(processes, given or task(count), found.__setitem__)
    here = itertools.count()
    while True:
        for number, seed in iter(shared.next, None):
            next(here)
            shared.over(number, episode(seed))
        if not shared.wait(lambda: None):
            return next(here), found


@pytest.mark.parametrize("processes", [""], indirect=True)
def test_a_process_plays_half_of_each_evaluation(processes: PlayerProcesses) -> None:
    for _ in range(3):
        here, found = evaluate(processes, 10)
        assert here <= 5
        assert found == expected(10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "reason"),
    [("raises", "ValueError: the pole"), ("dies", "it has ended")],
    indirect=["processes"],
)
def test_one_that_fails_is_replaced_and_reported(processes: PlayerProcesses, reason: str) -> None:
    (process,) = processes.going
    until(lambda: list(process.results()) == [] and process.is_idle)
    found: dict[int, Episode] = {}
    shared = share(processes, task(10), found.__setitem__)

    def play_to_the_end() -> None:
        until(lambda: bool(shared.next() is None or process.fault))
        while shared.wait(lambda: None):
            for number, seed in iter(shared.next, None):
                shared.over(number, episode(seed))

    with pytest.warns(RuntimeWarning, match=reason):
        play_to_the_end()
    assert len(found) >= 5
    assert not processes.going


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["hangs"], indirect=True)
def test_nobody_waits_for_one_that_hangs(processes: PlayerProcesses) -> None:
    assert evaluate(processes, 10) == (10, expected(10))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [""], indirect=True)
def test_nobody_waits_for_one_that_is_stopped_and_does_not_read(
    processes: PlayerProcesses,
) -> None:
    (process,) = processes.going
    until(lambda: list(process.results()) == [] and process.is_idle)
    os.kill(process.pid, signal.SIGSTOP)
    large = task(10)._replace(snapshot=Snapshot(np.int32(0), np.zeros(10**6, np.float32), ()))
    assert evaluate(processes, 10, large) == (10, expected(10))
