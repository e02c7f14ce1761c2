"""Evaluations that worker processes play: shared, taken over, failed, aborted.

Workers and players are fakes, processes and the server are real. Fakes wait for one another by
means of files in the test's folder, so that no result depends on how long something takes.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from poise.errors import (
    EnvironmentFailureError,
    EnvironmentNotFoundError,
    WorkerError,
)
from poise.launchers import process_pool
from poise.launchers.evaluation_helpers import EvaluationHelpers, Players, Task
from poise.launchers.processes import Processes
from poise.learning.evaluation_result import Candidate, Episode, EvaluationResult
from poise.learning.journal import RecordKind, StopReason
from poise.learning.parameter_server import EvaluationAborted
from poise.trajectory import Snapshot, WorkerUpdate

from . import harness
from .harness import SETTINGS, STEPS, TIMEOUT, FakeWorker, wait_for

# Classes of this module are pickled by value: a worker's process cannot import a test.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

PARAMETERS = 3
SEEDS = list(range(100, 112))


def played(seed: int, snapshot: Snapshot | None, sampling: Any, number: int) -> Episode:
    """Return an episode's result, the same for every player; a number with many digits."""
    strength = -1.0 if snapshot is None else float(np.sum(np.asarray(snapshot.parameters)))
    drawn = 0.0
    if sampling is not None:
        key = (*sampling.spawn_key, number)
        drawn = float(
            np.random.default_rng(
                np.random.SeedSequence(sampling.entropy, spawn_key=key)
            ).standard_normal()
        )
    return Episode(strength / seed + drawn, seed % 7 + 1, seed % 5 == 0)


@dataclasses.dataclass(frozen=True)
class Crew(FakeWorker):
    """A worker, its factory, and the factory of its player."""

    folder: Path = Path()
    does: tuple[str, ...] = ("plays", "plays")
    """What each worker does in its first episode; later it plays normally."""
    room: tuple[int, ...] = (2, 2)
    together: bool = True
    """Nobody finishes their first episode before all have begun one."""

    def __call__(self, index: int, generation: int) -> "Crew":
        return dataclasses.replace(self, index=index, generation=generation)

    def copies(self, index: int) -> int:
        return self.room[index]

    def player(self, index: int) -> "FakePlayer":
        return FakePlayer(self, index)

    def cycle(self, snapshot: Snapshot, state: int) -> tuple[WorkerUpdate, int]:
        # Nobody begins a second cycle before all workers have begun their first.
        (self.folder / f"cycled-{self.index}").touch()
        if state and not self.generation:
            wait_for(
                lambda: all((self.folder / f"cycled-{n}").exists() for n in range(len(self.room)))
            )
        return super().cycle(snapshot, state)

    def describe_activity(self) -> str:
        return "in training"

    def close(self) -> None:
        (self.folder / f"closed-{self.index}").touch()


class FakePlayer:
    """Plays an episode at once, or does something else at its first one."""

    def __init__(self, crew: Crew, index: int) -> None:
        self._crew, self._index = crew, index
        self._lanes = 0
        self._acts: tuple[Snapshot | None, Any] = (None, None)

    def prepare(self, snapshot: Snapshot | None, sampling: Any, step_limit: int | None) -> None:
        self._acts = snapshot, sampling

    def provide(self, count: int, alive: Callable[[], None]) -> int:
        if self._crew.does[self._index] == "finds no room":
            raise EnvironmentNotFoundError("the licence is for three")
        self._lanes = max(self._lanes, min(count, self._crew.room[self._index]))
        return self._lanes

    def play(
        self,
        waiting: Callable[[], tuple[int, int] | None],
        over: Callable[[int, Episode], None],
        alive: Callable[[], None],
    ) -> None:
        folder = self._crew.folder
        while (one := waiting()) is not None:
            number, seed = one
            alive()
            (folder / f"began-{self._index}").touch()
            if self._crew.together:
                wait_for(self._all_have_begun)
            self._act(number, seed, alive)
            (folder / f"began-{self._index}-{number}").touch()
            over(number, played(seed, *self._acts, number))

    def _all_have_begun(self) -> bool:
        everyone = [n for n, room in enumerate(self._crew.room) if room]
        return all((self._crew.folder / f"began-{n}").exists() for n in everyone)

    def _act(self, number: int, seed: int, alive: Callable[[], None]) -> None:
        folder, does = self._crew.folder, self._crew.does[self._index]
        if does == "dies behind another" and not list(folder.glob(f"lost-*-{number}")):
            return
        did = folder / f"did-{self._index}"
        if did.exists():
            return
        did.touch()
        (folder / f"lost-{self._index}-{number}").touch()
        match does:
            case "dies" | "dies behind another":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                threading.Event().wait()
            case "fails":
                try:
                    raise ValueError("the pole broke")
                except ValueError as error:
                    raise EnvironmentFailureError(
                        f"the environment's step raised ValueError: the pole broke (seed {seed})"
                    ) from error
            case "goes on":
                (folder / f"goes on-{self._index}").touch()
                while True:
                    alive()
                    time.sleep(0.01)
            case "breaks":
                raise ZeroDivisionError("in poise itself")

    def describe_activity(self) -> str:
        return f"player {self._index}"

    def close(self) -> None:
        (self._crew.folder / f"put away-{self._index}").touch()


class Stage(harness.Stage):
    """A server whose evaluations the workers play, as far as they can."""

    def __init__(self, folder: Path, evaluation_interval: int = 3 * STEPS) -> None:
        self.folder = folder
        self.helpers: list[EvaluationHelpers] = []
        self.played: list[int] = []
        """Number of finished episodes, each time one finished."""
        self.found: list[dict[int, Episode]] = []
        self.expected: list[dict[int, Episode]] = []
        self.sampling: Any = None
        self.alive: Callable[[], None] = harness.never
        settings = SETTINGS._replace(evaluation_interval=evaluation_interval)
        super().__init__(Processes(), PARAMETERS, settings)

    def evaluate(self, candidate: Candidate) -> EvaluationResult:
        self.play(candidate.snapshot)
        return super().evaluate(candidate)

    def play(self, snapshot: Snapshot | None, budget: int | None = None) -> dict[int, Episode]:
        players = self.helpers[-1].players
        assert isinstance(players, Players)
        task = Task(snapshot, SEEDS, self.sampling, budget)
        self.found.append(players.play(task, self.alive, self.played.append))
        episodes = enumerate(SEEDS)
        self.expected.append(
            {number: played(seed, snapshot, self.sampling, number) for number, seed in episodes}
        )
        return self.found[-1]

    def train(self, crew: Crew, until: int = 4, max_restarts: int = 0, joins: int = 0) -> None:
        """Run until this many updates were applied, and this many workers have joined."""

        def direct() -> StopReason | None:
            there = self.server.version >= until and self.kinds.count(RecordKind.JOIN) >= joins
            return StopReason.INTERRUPTED if there else None

        self.run(
            crew,
            direct,
            workers=len(crew.room),
            max_restarts=max_restarts,
            offer_helpers=self.helpers.append,
        )

    @property
    def said(self) -> list[str]:
        """Messages about lost workers."""
        return self.restarts + self.losses

    def who_began(self) -> dict[int, set[int]]:
        """Return the workers that began each episode."""
        began: dict[int, set[int]] = {}
        for path in self.folder.glob("began-*-*"):
            _, index, number = path.name.split("-")
            began.setdefault(int(number), set()).add(int(index))
        return began


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.server.stop(StopReason.FAILED)


@pytest.fixture(autouse=True)
def some_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "LEAVE_SECONDS", 20.0)


@pytest.mark.parametrize("room", [(2, 2), pytest.param((1, 0), marks=pytest.mark.slow)])
def test_all_allowed_workers_play_in_parallel_and_training_continues(
    stage: Stage, room: tuple[int, ...]
) -> None:
    """With each evaluation's own parameters; and after the end of training, at random."""
    stage.sampling = np.random.SeedSequence(2**70, spawn_key=(3, 4))
    stage.concluded = lambda: stage.play(None, budget=10)
    stage.train(Crew(folder=stage.folder, room=room), until=12)
    assert stage.kinds.count(RecordKind.EVALUATION) >= 2
    assert stage.found[:-1] == stage.expected[:-1]
    strengths = {one[0].total for one in stage.expected[:-1]}
    assert len(strengths) == len(stage.expected) - 1
    assert stage.played[: len(SEEDS)] == list(range(1, len(SEEDS) + 1))
    taken = set().union(*stage.who_began().values())
    assert taken == {index for index, count in enumerate(room) if count}
    # What the budget needs, and hardly more: 3, 4 and 5 steps, and episodes begun meanwhile.
    last = stage.found[-1]
    assert 3 <= len(last) <= 3 + 2 * sum(room)
    assert all(last[number] == stage.expected[-1][number] for number in last)
    assert set(range(3)) <= set(last)
    names = {path.name for path in stage.folder.iterdir()}
    assert {f"closed-{index}" for index in range(2)} <= names
    assert {f"put away-{index}" for index in taken} <= names


@pytest.mark.slow
def test_a_workers_episodes_are_taken_over_when_it_dies(stage: Stage) -> None:
    """It is restarted, but only after the evaluation, as the journal's order requires."""
    stage.train(Crew(folder=stage.folder, does=("plays", "dies")), max_restarts=1, joins=3)
    assert stage.found == stage.expected
    [lost] = stage.folder.glob("lost-1-*")
    assert 0 in stage.who_began()[int(lost.name.split("-")[2])]
    assert len(stage.said) == 1
    assert "worker 1" in stage.said[0]
    assert "SIGKILL" in stage.said[0]
    kinds = stage.kinds
    assert kinds.index(RecordKind.EVALUATION) < kinds.index(RecordKind.LEAVE)
    assert kinds.count(RecordKind.JOIN) == 3
    assert -stage.sum_of_parameters == PARAMETERS * sum(
        record.worker + 1 for record in stage.journal.records if record.kind == RecordKind.UPDATE
    )


@pytest.mark.slow
def test_play_returns_when_no_worker_is_left(stage: Stage) -> None:
    """The only worker dies: the caller must play the remaining episodes."""
    with pytest.raises(WorkerError, match="SIGKILL"):
        stage.train(Crew(folder=stage.folder, does=("dies",), room=(2,)))
    assert stage.found == [{}]


@pytest.mark.slow
def test_an_episode_on_which_two_workers_die_ends_the_run(stage: Stage) -> None:
    crew = Crew(folder=stage.folder, does=("dies", "dies behind another"))
    with pytest.raises(WorkerError) as caught:
        stage.train(crew, max_restarts=9)
    assert caught.value.seed in SEEDS
    assert "SIGKILL in an evaluation" in str(caught.value)
    assert not stage.said


@pytest.mark.slow
@pytest.mark.parametrize("does", ["fails", "breaks"])
def test_a_failure_is_raised_with_worker_seed_and_traceback(stage: Stage, does: str) -> None:
    kind = EnvironmentFailureError if does == "fails" else WorkerError
    with pytest.raises(kind) as caught:
        stage.train(Crew(folder=stage.folder, does=(does, does)), max_restarts=9)
    error: Any = caught.value
    assert "worker" in str(error)
    assert "Fake-v0" in str(error)
    assert "Traceback" in error.worker_traceback
    if does == "fails":
        assert any(f"(seed {seed})" in str(error) for seed in SEEDS)
        assert "the pole broke" in error.worker_traceback
    else:
        assert error.seed in SEEDS
        assert "ZeroDivisionError" in str(error)
    assert stage.server.stop_reason == StopReason.FAILED


@pytest.mark.slow
def test_a_worker_that_cannot_make_a_copy_is_excluded(stage: Stage) -> None:
    crew = Crew(folder=stage.folder, does=("plays", "finds no room"), together=False)
    with pytest.warns(RuntimeWarning, match="without worker 1.*the licence is for three") as said:
        stage.train(crew, until=12)
    assert len(said) == 1
    assert len(stage.found) >= 2
    assert stage.found == stage.expected
    assert not stage.said


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_and_its_episodes_taken_over(stage: Stage) -> None:
    def alive() -> None:
        if (stage.folder / "began-1").exists():
            stage.clock.now += TIMEOUT / 4

    stage.alive = alive
    stage.train(
        Crew(folder=stage.folder, does=("plays", "hangs"), room=(0, 2)), max_restarts=1, joins=3
    )
    assert len(stage.said) == 1
    assert "worker 1" in stage.said[0]
    assert "in an evaluation, with environment seed" in stage.said[0]
    assert "has not answered" in stage.said[0]
    # No other worker may play: the caller must play the rest.
    assert stage.found[0] == {}
    assert stage.kinds.index(RecordKind.EVALUATION) < stage.kinds.index(RecordKind.LEAVE)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["training", pytest.param("the end", marks=pytest.mark.slow)])
def test_an_abort_ends_the_run_and_closes_the_players(stage: Stage, when: str) -> None:
    """As after Ctrl-C: between two steps, the players notice that the parent has gone."""

    def alive() -> None:
        if (stage.folder / "goes on-1").exists():
            raise EvaluationAborted(StopReason.INTERRUPTED)

    def conclude() -> None:
        with pytest.raises(EvaluationAborted):
            stage.play(stage.server.snapshot())

    if when == "the end":
        stage = Stage(stage.folder, evaluation_interval=10**9)
        stage.concluded = conclude
    stage.alive = alive
    stage.train(Crew(folder=stage.folder, does=("goes on", "goes on")))
    assert stage.server.stop_reason == StopReason.INTERRUPTED
    assert RecordKind.EVALUATION not in stage.kinds
    names = {path.name for path in stage.folder.iterdir()}
    assert {"closed-0", "closed-1", "put away-1"} <= names
    assert not stage.found


@pytest.mark.slow
def test_a_worker_in_a_cycle_joins_after_it_and_its_update_is_applied_later(stage: Stage) -> None:
    crew = Crew(folder=stage.folder)
    stage.train(crew, until=9)
    assert stage.found == stage.expected
    # Both play, although the update of only one of them triggered the evaluation.
    assert set().union(*stage.who_began().values()) == {0, 1}
    worker_updates = [r.worker for r in stage.journal.records if r.kind == RecordKind.UPDATE]
    assert len(worker_updates) == stage.server.version
    assert set(worker_updates) == {0, 1}


@pytest.mark.slow
def test_many_evaluations_one_after_the_other(stage: Stage) -> None:
    stage.concluded = lambda: [stage.play(stage.server.snapshot()) for _ in range(20)]
    stage.train(Crew(folder=stage.folder, room=(3, 1)), until=6)
    assert stage.found == stage.expected
    assert len(stage.found) >= 21
