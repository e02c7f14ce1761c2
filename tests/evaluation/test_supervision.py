"""Evaluations and the random baseline end by their deadline, whatever the environment does."""

import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.errors import (
    DeadlineError,
    EnvironmentFailureError,
    EnvironmentNotFoundError,
    InputError,
)
from poise.evaluation import supervision
from poise.evaluation.evaluator import Evaluator
from poise.evaluation.supervision import EvaluationSupervisor, Heartbeat
from poise.launchers.serial import Serial
from poise.launchers.stop_signals import StopSignals
from poise.launchers.supervision import EVALUATION, Heartbeats, Supervision
from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.learning.journal import StopReason
from poise.learning.parameter_server import EvaluationAborted
from poise.trajectory import Snapshot

from ..small import SMALL, train

PATIENCE = 60.0

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


CANDIDATE = Candidate(Snapshot(np.int32(0), np.zeros(1, np.float32)), 0)
RESULT = EvaluationResult(Score(*(0.0,) * 6, episodes=1, greedy=True, cut=0, steps=1), None, False)


class FakeEvaluator(Evaluator):
    """Calls a given function instead of evaluating."""

    def __init__(self, does: Callable[[], object]) -> None:
        self.does = does

    def __call__(self, candidate: Candidate) -> EvaluationResult:
        self.does()
        return RESULT


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event to hang on, set after the test."""
    event = threading.Event()
    yield event
    event.set()


def expected(heartbeats: Heartbeats) -> set[int]:
    """Those from whom signs of life are expected."""
    return set(heartbeats.overdue(-math.inf))


def new_supervisor(
    does: Any, timeout: float = PATIENCE
) -> tuple[EvaluationSupervisor, Heartbeats, StopSignals]:
    heartbeats, signals = Heartbeats(), StopSignals()
    supervision = Supervision(
        lambda: None, 0.001, timeout, "Toy-v0", evaluating=lambda: "seed 3, last action 1"
    )
    evaluator = FakeEvaluator(does)
    return (
        EvaluationSupervisor(evaluator, Heartbeat(heartbeats, signals), heartbeats, supervision),
        heartbeats,
        signals,
    )


def test_an_evaluation_that_hangs_is_abandoned(released: threading.Event) -> None:
    found, _, _ = new_supervisor(lambda: released.wait(PATIENCE), timeout=0.05)
    with pytest.raises(DeadlineError) as caught:
        found.evaluate(CANDIDATE)
    text = "an evaluation in Toy-v0 (seed 3, last action 1) has not answered for 0.05 s"
    assert text in str(caught.value)


def test_a_result_is_returned_and_nothing_is_watched_afterwards() -> None:
    found, heartbeats, _ = new_supervisor(lambda: None)
    assert found.evaluate(CANDIDATE) == RESULT
    assert not expected(heartbeats)


def test_an_exception_is_raised() -> None:
    def fail() -> None:
        raise EnvironmentFailureError("the pole broke")

    found, heartbeats, _ = new_supervisor(fail)
    with pytest.raises(EnvironmentFailureError, match="the pole broke"):
        found.evaluate(CANDIDATE)
    assert not expected(heartbeats)


def test_an_evaluation_in_a_thread_of_a_worker_is_watched() -> None:
    """There, the evaluation runs in the same thread, and must give signs of life."""
    seen: list[set[int]] = []
    found, heartbeats, _ = new_supervisor(lambda: seen.append(expected(heartbeats)))
    thread = threading.Thread(target=found.evaluate, args=(CANDIDATE,))
    thread.start()
    thread.join()
    assert seen == [{EVALUATION}]
    assert not expected(heartbeats)


def test_a_heartbeat_aborts_at_a_signal() -> None:
    _, heartbeats, signals = new_supervisor(lambda: None)
    heartbeat = Heartbeat(heartbeats, signals)
    heartbeat.beat()
    signals.reason = StopReason.TERMINATED
    with pytest.raises(EvaluationAborted):
        heartbeat.beat()


def test_a_copy_that_can_no_longer_be_made_is_a_failure_and_the_run_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not an input error, because the run had begun."""

    def fail(*arguments: Any, **settings: Any) -> None:
        raise EnvironmentNotFoundError("cannot be made: OSError: too many open files")

    monkeypatch.setattr(supervision, "random_baseline", fail)
    with pytest.raises(EnvironmentFailureError, match="too many open files"):
        train(tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").exists()
    poise.replay(tmp_path / "run")


def test_a_run_that_cannot_begin_leaves_nothing_but_an_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise InputError("put the call under a guard")

    with monkeypatch.context() as patch:
        patch.setattr(Serial, "run", refuse)
        with pytest.raises(InputError):
            train(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    old = train(tmp_path / "old").folder
    # As if the run had been killed before its first checkpoint.
    shutil.rmtree(old / "checkpoints")
    (old / "summary.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Serial, "run", refuse)
        with pytest.raises(InputError, match="guard"):
            poise.resume(old)
    assert (old / "config.json").exists()
    poise.resume(old)


def test_a_baseline_that_fails_ends_a_run_that_keeps_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise EnvironmentFailureError("the environment's step raised RuntimeError: gone")

    monkeypatch.setattr(supervision, "random_baseline", fail)
    with pytest.raises(EnvironmentFailureError, match="gone"):
        train(tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["evaluation"]["episodes"] == SMALL["verification_episodes"]
    assert summary["random_baseline"] is None
    assert summary["failure"] == "EnvironmentFailureError"
    poise.replay(tmp_path / "run")
