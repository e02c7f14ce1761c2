"""The server as a state machine, driven by artificial updates."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from poise.learning.algorithms.a3c import A3C
from poise.learning.best_policy import BestPolicyTracker
from poise.learning.episode_statistics import MEAN_WINDOW
from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.learning.events import (
    EpisodeFinished,
    Evaluated,
    Rejected,
    Stopped,
    TrainingSolved,
    Updated,
)
from poise.learning.journal import Record, RecordKind, StopReason
from poise.learning.parameter_server import EvaluationAborted, ProtocolError
from poise.maths.statistics import Moments
from poise.trajectory import Snapshot

from .fakes import Bench, result, worker_update

METRICS = dict(zip(A3C.metrics, (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))
SNAPSHOT = Snapshot(np.int32(0), np.zeros(2, np.float32))


def joined(*script: Any, **settings: Any) -> Bench:
    bench = Bench(script, **settings)
    bench.join(0)
    return bench


# --- Versions and protocol ------------------------------------------------------------------------


def test_a_first_snapshot_is_version_0() -> None:
    snapshot = Bench().server.join(3)
    assert snapshot.version == 0
    assert np.asarray(snapshot.version).dtype == np.int32
    np.testing.assert_array_equal(snapshot.parameters, 0.0)
    assert snapshot.statistics == ()


def test_an_update_is_applied_on_arrival_and_its_sender_is_answered() -> None:
    bench = Bench()
    bench.join(0, 1)
    answers = bench.give(1, gradient=2.0)
    assert list(answers) == [1]
    assert answers[1].version == 1
    np.testing.assert_array_equal(answers[1].parameters, -1.0)
    answers = bench.give(0, gradient=-6.0)
    assert list(answers) == [0]
    assert answers[0].version == bench.server.version == 2
    np.testing.assert_array_equal(answers[0].parameters, 2.0)


def test_a_worker_that_joins_later_gets_the_current_version() -> None:
    bench = joined()
    bench.give()
    assert bench.server.join(1, generation=4).version == 1


def test_staleness_is_the_number_of_updates_in_between() -> None:
    bench = Bench()
    bench.join(0, 1, 2)
    for worker in (0, 0, 1, 2, 0):
        bench.give(worker)
    assert [event.staleness for event in bench.of(Updated)] == [0, 0, 2, 3, 2]


def test_an_update_is_reported_in_full() -> None:
    bench = joined()
    bench.give(steps=7)
    assert bench.of(Updated) == [Updated(0, 1, 7, METRICS, 0, 0.5)]


def test_contributing_without_having_joined_is_an_error() -> None:
    bench = joined()
    with pytest.raises(ValueError, match="worker 1 contributes without having joined"):
        bench.server.receive(1, worker_update(0))
    bench.server.leave(0)
    with pytest.raises(ValueError, match="worker 0 contributes without having joined"):
        bench.server.receive(0, worker_update(0))
    assert bench.server.version == 0


@pytest.mark.parametrize("version", [-1, 0, 2])
def test_acting_with_another_version_is_an_error(version: int) -> None:
    bench = joined()
    bench.give()
    with pytest.raises(ValueError, match=f"version {version}, but was given 1"):
        bench.server.receive(0, worker_update(version))
    assert bench.server.version == 1
    bench.give()
    assert bench.server.version == 2


def test_an_update_counts_once() -> None:
    bench = joined()
    once = worker_update(0)
    bench.server.receive(0, once)
    with pytest.raises(ValueError, match="was given 1"):
        bench.server.receive(0, once)


def test_after_the_stop_updates_are_refused() -> None:
    bench = joined()
    bench.server.stop(StopReason.INTERRUPTED)
    events, length = list(bench.events), bench.journal.length
    assert bench.give(returns=[5.0]) == {}
    assert bench.server.receive(99, worker_update(5)) == {}
    assert (bench.server.version, bench.server.steps, bench.server.episode_statistics.episodes) == (
        0,
        0,
        0,
    )
    assert bench.events == events
    assert bench.journal.length == length
    np.testing.assert_array_equal(bench.server.snapshot().parameters, 0.0)


def test_the_first_reason_to_stop_is_kept() -> None:
    bench = joined()
    bench.server.stop(StopReason.TERMINATED)
    bench.server.stop(StopReason.MAX_STEPS)
    assert bench.server.stop_reason == StopReason.TERMINATED
    assert bench.of(Stopped) == [Stopped(StopReason.TERMINATED, 0)]
    assert bench.evaluated_by == []


def test_leaving_twice_is_leaving_once(tmp_path: Path) -> None:
    bench = joined()
    bench.server.leave(0)
    bench.server.leave(0)
    bench.server.leave(7)
    kinds = [record.kind for record in bench.written(tmp_path).records]
    assert kinds == [RecordKind.JOIN, RecordKind.LEAVE]


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_never_applied(damage: float, tmp_path: Path) -> None:
    bench = joined(max_bad_gradients=2)
    bench.give()
    before = bench.server.snapshot()
    losses = np.float32([1.0, 1.0, 1.0, 1.0, damage])
    bad = worker_update(1, returns=[9.0], gradient=damage)._replace(metrics=losses)
    for rejected in (1, 2):
        answers = bench.server.receive(0, bad)
        assert answers[0].version == bench.server.version == 1
        np.testing.assert_array_equal(answers[0].parameters, before.parameters)
        assert bench.server.bad_gradients == rejected
    assert (bench.server.steps, bench.server.episode_statistics.episodes) == (10, 0)
    assert len(bench.of(Rejected)) == 2
    details = [record.detail for record in bench.written(tmp_path).records[1:]]
    assert details == [1, 0, 0]
    assert bench.server.receive(0, bad) == {}
    assert bench.server.stop_reason == StopReason.NOT_FINITE
    assert bench.evaluated_by == []


# --- Budgets --------------------------------------------------------------------------------------


def test_the_budget_of_steps_ends_the_run_with_an_evaluation() -> None:
    bench = joined(result(3.0), max_steps=25)
    assert bench.give()
    assert bench.give()
    assert not bench.server.stopped
    assert bench.evaluated_by == []
    assert bench.give() == {}
    assert bench.server.stop_reason == StopReason.MAX_STEPS
    assert bench.server.steps == 30
    assert [snapshot.version for snapshot in bench.evaluated_by] == [3]
    assert [type(event) for event in bench.events[-2:]] == [Evaluated, Stopped]
    assert bench.events[-1] == Stopped(StopReason.MAX_STEPS, 30)


def test_the_budget_is_met_exactly() -> None:
    bench = joined(max_steps=20)
    assert bench.give()
    assert bench.give() == {}


def test_the_budget_of_episodes() -> None:
    bench = joined(max_episodes=3)
    assert bench.give(returns=[1.0, 2.0])
    assert bench.give(returns=[])
    assert bench.give(returns=[3.0, 4.0]) == {}
    assert bench.server.stop_reason == StopReason.MAX_EPISODES
    assert bench.server.episode_statistics.episodes == 4
    assert len(bench.evaluated_by) == 1


@pytest.mark.parametrize("reason", [StopReason.MAX_SECONDS, StopReason.CALLBACK])
def test_a_run_ended_from_outside_ends_with_an_evaluation(reason: StopReason) -> None:
    """Launchers check the budget of seconds; callbacks belong to the user."""
    bench = joined(result(1.0))
    bench.give()
    bench.server.stop(reason)
    assert [snapshot.version for snapshot in bench.evaluated_by] == [1]
    assert bench.server.stop_reason == reason


def test_a_run_that_learned_nothing_ends_without_an_evaluation() -> None:
    bench = joined()
    bench.server.stop(StopReason.MAX_SECONDS)
    assert bench.evaluated_by == []
    assert bench.server.best is None


def test_nothing_is_evaluated_twice_at_the_end() -> None:
    bench = joined(evaluation_interval=20, max_steps=20)
    bench.give()
    bench.give()
    assert [snapshot.version for snapshot in bench.evaluated_by] == [2]
    assert bench.server.stop_reason == StopReason.MAX_STEPS


@pytest.mark.parametrize(
    "reason", [StopReason.INTERRUPTED, StopReason.TERMINATED, StopReason.FAILED]
)
def test_an_aborted_run_ends_without_an_evaluation(reason: StopReason) -> None:
    bench = joined()
    bench.give()
    bench.server.stop(reason)
    assert bench.evaluated_by == []


def test_a_final_evaluation_that_solves_is_the_reason_to_stop() -> None:
    bench = joined(result(9.0, solved=True), max_steps=10)
    bench.give()
    assert bench.server.stop_reason == StopReason.SOLVED
    assert len(bench.of(Stopped)) == 1


# --- Evaluation -----------------------------------------------------------------------------------


def test_evaluations_are_triggered_by_steps() -> None:
    bench = joined(evaluation_interval=30)
    for _ in range(10):
        bench.give(steps=9)
    # 36 is the first sum at or above 30; the next interval begins there.
    assert [event.steps for event in bench.of(Evaluated)] == [36, 72]
    assert [int(snapshot.version) for snapshot in bench.evaluated_by] == [4, 8]
    np.testing.assert_array_equal(bench.evaluated_by[0].parameters, -2.0)


def test_an_evaluation_comes_at_the_interval_and_not_before() -> None:
    bench = joined(evaluation_interval=20)
    bench.give(steps=19)
    assert bench.evaluated_by == []
    bench.give(steps=1)
    assert len(bench.evaluated_by) == 1


def test_an_evaluation_takes_no_more_steps_than_the_training_up_to_the_next() -> None:
    script = [result(1.0, steps=45), result(1.0, steps=5), result(1.0)]
    bench = joined(*script, evaluation_interval=20, selection_episodes=20)
    for _ in range(10):
        bench.give()
    assert [event.steps for event in bench.of(Evaluated)] == [20, 70, 90]


def test_rollouts_of_resets_alone_never_evaluate() -> None:
    bench = joined(evaluation_interval=1)
    bench.give(steps=0)
    assert bench.evaluated_by == []


def test_the_sender_waits_for_the_evaluation() -> None:
    order: list[str] = []

    def evaluate(candidate: Candidate) -> EvaluationResult:
        order.append("evaluated")
        return result(0.0)

    bench = Bench(evaluate, evaluation_interval=10)
    bench.join(0)
    bench.give()
    order.append("answered")
    assert order == ["evaluated", "answered"]


@pytest.mark.parametrize(
    "reason",
    [
        StopReason.INTERRUPTED,
        StopReason.MAX_SECONDS,
    ],
)
def test_an_aborted_evaluation_stops_the_run(reason: StopReason) -> None:
    bench = joined(result(1.0), EvaluationAborted(reason), evaluation_interval=10)
    bench.give()
    assert bench.give() == {}
    assert bench.server.stop_reason == reason
    assert len(bench.evaluated_by) == 2, "it is not tried again"
    assert len(bench.of(Evaluated)) == 1
    assert bench.server.best is not None
    assert bench.server.best.version == 1, "the aborted one is not a candidate"


def test_an_aborted_final_evaluation_stops_the_run_once() -> None:
    bench = joined(EvaluationAborted(StopReason.INTERRUPTED), max_steps=10)
    bench.give()
    assert bench.of(Stopped) == [Stopped(StopReason.INTERRUPTED, 10)]


def test_an_evaluators_exception_is_not_swallowed() -> None:
    bench = joined(RuntimeError("no environment"), evaluation_interval=10)
    with pytest.raises(RuntimeError, match="no environment"):
        bench.give()


def test_the_best_is_verified_before_unverified_then_by_score() -> None:
    script = [
        result(5.0),
        result(4.0),
        result(5.0),
        result(6.0),
        result(2.0, solved=True),
        result(9.0),
        result(3.0, solved=True),
    ]
    bench = joined(*script, evaluation_interval=10, stop_when_solved=False)
    best = []
    for count, _ in enumerate(script, 1):
        # Once solved, the next evaluation comes when the steps have doubled.
        while len(bench.of(Evaluated)) < count:
            bench.give()
        assert bench.server.best is not None
        best.append(int(bench.server.best.version))
    assert best == [1, 1, 1, 4, 5, 5, 20]
    is_best = [event.is_best for event in bench.of(Evaluated)]
    assert is_best == [True, False, False, True, True, False, True]
    assert bench.server.best_result == script[6]


def test_the_best_is_a_frozen_snapshot() -> None:
    bench = joined(result(5.0), result(1.0), evaluation_interval=10)
    bench.give()
    best = bench.server.best
    assert best is not None
    before = np.array(best.parameters)
    bench.give()
    np.testing.assert_array_equal(best.parameters, before)


@pytest.mark.parametrize("stop", [True, False])
def test_solving_stops_the_run_if_configured(stop: bool) -> None:
    bench = joined(result(9.0, solved=True), evaluation_interval=10, stop_when_solved=stop)
    answers = bench.give()
    assert (answers == {}) is stop
    assert bench.server.stop_reason == (StopReason.SOLVED if stop else None)


def test_an_evaluator_gets_everything_that_determines_its_result() -> None:
    bench = joined(result(1.0), result(1.0), evaluation_interval=20)
    for _ in range(4):
        bench.give(returns=[6.0, 8.0])
    first, second = bench.asked
    assert (first.steps, first.number, first.attempts, first.training_mean) == (20, 0, 0, 7.0)
    assert (second.steps, second.number, second.attempts) == (40, 1, 0)
    assert second.step_limit == 10_000


def failed(mean: float = 1.0, steps: int = 1) -> EvaluationResult:
    one = result(mean, steps=steps)
    return one._replace(verification=one.selection)


@pytest.mark.parametrize(("attempts", "sixteenths"), [(1, 1), (2, 2), (4, 4), (9, 4)])
def test_the_wait_is_a_fraction_of_the_steps_so_far(attempts: int, sixteenths: int) -> None:
    best_policy = BestPolicyTracker(10)
    for _ in range(attempts):
        candidate = best_policy.candidate(SNAPSHOT, 16_000, None, 100)
        best_policy.add(candidate, failed())
    wait = 1000 * sixteenths
    assert not best_policy.candidate(SNAPSHOT, 16_000 + wait - 1, None, 100).may_verify
    assert best_policy.candidate(SNAPSHOT, 16_000 + wait - 1, None, 100, at_the_end=True).may_verify
    assert best_policy.candidate(SNAPSHOT, 16_000 + wait, None, 100).may_verify


def test_after_a_long_verification_the_wait_is_half_its_steps() -> None:
    best_policy = BestPolicyTracker(10)
    best_policy.add(best_policy.candidate(SNAPSHOT, 100, None, 100), failed(steps=5000))
    assert not best_policy.candidate(SNAPSHOT, 2599, None, 100).may_verify
    assert best_policy.candidate(SNAPSHOT, 2600, None, 100).may_verify


def test_free_evaluations_postpone_nothing() -> None:
    best_policy = BestPolicyTracker(10, is_free=True)
    best_policy.add(best_policy.candidate(SNAPSHOT, 160, None, 100), failed(steps=5000))
    assert not best_policy.due(169)
    assert best_policy.due(170)
    assert not best_policy.candidate(SNAPSHOT, 169, None, 100).may_verify
    assert best_policy.candidate(SNAPSHOT, 170, None, 100).may_verify


def test_after_solving_nothing_is_verified() -> None:
    best_policy = BestPolicyTracker(10)
    best_policy.add(best_policy.candidate(SNAPSHOT, 100, None, 100), result(1.0, solved=True))
    assert not best_policy.candidate(SNAPSHOT, 10**9, None, 100, at_the_end=True).may_verify


def test_a_run_that_goes_on_verifies_what_seems_better() -> None:
    best_policy = BestPolicyTracker(10, goes_on=True)
    first = best_policy.candidate(SNAPSHOT, 1600, None, 100)
    assert first.to_exceed is None
    # Its selection was luckier than its verification, which is what later ones must exceed.
    lucky = verified(9.0, 5.0)
    assert best_policy.add(first, lucky)
    assert not best_policy.candidate(SNAPSHOT, 1699, None, 100).may_verify
    second = best_policy.candidate(SNAPSHOT, 1700, None, 100)
    assert (second.may_verify, second.to_exceed) == (True, 5.0)
    assert not best_policy.add(second, result(8.0))
    assert not best_policy.add(second, verified(8.0, 4.0))
    assert best_policy.add(second, verified(7.0, 6.0))
    assert best_policy.candidate(SNAPSHOT, 10**6, None, 100).to_exceed == 6.0
    assert best_policy.due(1700 + 1700 // 16)


def verified(selection: float, verification: float) -> EvaluationResult:
    one, other = result(selection), result(verification)
    return EvaluationResult(one.selection, other.selection, True)


def test_of_equal_candidates_the_one_with_better_training_is_best() -> None:
    """On a task that greedy policies cannot solve, all selection scores are equal."""
    bench = joined(*[result(-200.0)] * 3, evaluation_interval=10)
    for returns in ([-50.0], [-10.0], [-60.0]):
        bench.give(returns=returns)
    assert [event.is_best for event in bench.of(Evaluated)] == [True, True, False]


def test_a_run_ends_after_a_long_time_without_improvement() -> None:
    script = [result(mean) for mean in (1.0, 3.0, 2.0, 3.0, 2.0, 2.0)]
    bench = joined(*script, evaluation_interval=10, stop_when_flat=30)
    while not bench.server.stopped:
        bench.give()
    assert bench.server.stop_reason == StopReason.FLAT
    assert [event.steps for event in bench.of(Evaluated)] == [10, 20, 30, 40, 50]
    assert isinstance(bench.events[-1], Stopped)


def test_episodes_without_a_time_limit_are_cut_by_the_length_of_those_in_training() -> None:
    bench = joined(*[result(1.0)] * 9, evaluation_interval=10, step_limit=None)
    bench.give()
    bench.server.episode_statistics.add(1.0, 1300)
    bench.give()
    for _ in range(100):
        bench.server.episode_statistics.add(1.0, 20)
    bench.give()
    bench.server.episode_statistics.add(1.0, 9999)
    bench.give()
    assert [one.step_limit for one in bench.asked] == [1000, 5200, 1000, 10_000]


def test_cut_episodes_do_not_postpone_the_next_evaluation() -> None:
    best_policy = BestPolicyTracker(10)
    circles = result(1.0, steps=20_000)
    circles = circles._replace(selection=circles.selection._replace(cut=20))
    best_policy.add(best_policy.candidate(SNAPSHOT, 100, None, 1000), circles)
    assert best_policy.due(110)
    # If steps are slow, the steps of cut episodes count too.
    slow = BestPolicyTracker(10, 5)
    slow.add(slow.candidate(SNAPSHOT, 100, None, 1000), circles)
    assert not slow.due(100_000)


# --- Schedules and statistics ---------------------------------------------------------------------


def test_the_learning_rate_anneals_with_the_steps_counted() -> None:
    bench = joined(anneal_steps=40, learning_rate=1.0)
    for _ in range(4):
        bench.give()
    assert [event.learning_rate for event in bench.of(Updated)] == [1.0, 0.75, 0.5, 0.25]
    np.testing.assert_allclose(bench.server.snapshot().parameters, -2.5)


def test_the_learning_rate_never_falls_below_0() -> None:
    bench = joined(anneal_steps=15, learning_rate=1.0)
    for _ in range(3):
        bench.give()
    rates = [event.learning_rate for event in bench.of(Updated)]
    np.testing.assert_allclose(rates, [1.0, 1 / 3, 0.0])


def test_a_constant_learning_rate_is_constant() -> None:
    bench = joined(max_steps=40)
    for _ in range(4):
        bench.give()
    assert {event.learning_rate for event in bench.of(Updated)} == {0.5}


def test_the_moving_average_begins_with_the_first_return() -> None:
    bench = joined()
    bench.give(returns=[50.0, 100.0])
    bench.give(returns=[0.0])
    averages = [event.moving_average for event in bench.of(EpisodeFinished)]
    np.testing.assert_allclose(averages, [50.0, 50.5, 49.995])


def test_episodes_are_reported_in_order() -> None:
    bench = joined()
    bench.join(1)
    bench.give(0, returns=[1.0, 2.0])
    bench.give(1, returns=[3.0])
    found = [
        (event.worker, event.episode, event.steps, event.episode_return, event.length, event.loss)
        for event in bench.of(EpisodeFinished)
    ]
    assert found == [(0, 1, 10, 1.0, 1, 1.0), (0, 2, 10, 2.0, 2, 1.0), (1, 3, 20, 3.0, 1, 1.0)]
    assert bench.server.episode_statistics.episodes == 3


def test_the_mean_is_over_the_last_100_episodes() -> None:
    bench = joined()
    assert bench.server.episode_statistics.mean is None
    bench.give(returns=[4.0, 8.0])
    assert bench.server.episode_statistics.mean == 6.0
    bench.give(returns=list(range(MEAN_WINDOW)))
    assert bench.server.episode_statistics.mean == 49.5


def test_training_is_solved_once_by_100_episodes_and_not_by_fewer() -> None:
    bench = joined(target_return=10.0, stop_when_solved=True)
    bench.give(returns=[50.0] * (MEAN_WINDOW - 1))
    assert bench.of(TrainingSolved) == []
    bench.give(returns=[10.0, 10.0])
    assert bench.of(TrainingSolved) == [TrainingSolved(steps=20, episodes=MEAN_WINDOW)]
    bench.give(returns=[0.0] * MEAN_WINDOW)
    bench.give(returns=[50.0] * MEAN_WINDOW)
    assert len(bench.of(TrainingSolved)) == 1
    assert not bench.server.stopped, "only a verification ends a run"


def test_training_below_the_target_is_not_solved() -> None:
    bench = joined(target_return=10.0)
    bench.give(returns=[9.99] * (2 * MEAN_WINDOW))
    assert bench.of(TrainingSolved) == []


def test_without_a_target_nothing_is_solved() -> None:
    bench = joined()
    bench.give(returns=[1e6] * MEAN_WINDOW)
    assert bench.of(TrainingSolved) == []


def test_statistics_are_sent_in_updates_and_snapshots() -> None:
    nothing = Moments(np.float64(0), np.zeros(1), np.zeros(1))
    bench = Bench(moments=nothing)
    bench.join(0, 1)
    np.testing.assert_array_equal(bench.snapshots[0].statistics, [[0.0], [1.0]])
    seen = np.array([[1.0], [3.0], [8.0], [12.0]])
    for worker, rows in ((0, seen[:2]), (1, seen[2:])):
        spread = np.sum((rows - rows.mean(0)) ** 2, axis=0)
        added = Moments(np.float32(2), np.float32(rows.mean(0)), np.float32(spread))
        answers = bench.server.receive(worker, worker_update(0)._replace(statistics=added))
    mean, scale = answers[1].statistics
    np.testing.assert_allclose(mean, seen.mean(0))
    np.testing.assert_allclose(scale, 1 / seen.std(0), rtol=1e-6)


# --- The journal ----------------------------------------------------------------------------------


def test_every_decision_is_in_the_journal(tmp_path: Path) -> None:
    bench = Bench([result(2.5), result(7.0, solved=True)], evaluation_interval=20)
    bench.server.join(3, generation=2)
    bench.join(1)
    bench.snapshots[3] = Snapshot(np.int32(0), None)
    for worker in (3, 1, 3):
        bench.give(worker)
    bench.server.leave(1)
    bench.give(3)

    def bits(mean: float) -> int:
        return int(struct.unpack("<Q", struct.pack("<d", mean))[0])

    assert bench.written(tmp_path).records == [
        Record(RecordKind.JOIN, 0, 3, 2, 0, 0),
        Record(RecordKind.JOIN, 0, 1, 0, 0, 0),
        Record(RecordKind.UPDATE, 1, 3, 2, 0, 10),
        Record(RecordKind.UPDATE, 1, 1, 0, 0, 20),
        Record(RecordKind.EVALUATION, 0, 0, 0, 2, bits(2.5)),
        Record(RecordKind.UPDATE, 1, 3, 2, 1, 30),
        Record(RecordKind.LEAVE, 0, 1, 0, 2, 0),
        Record(RecordKind.UPDATE, 1, 3, 2, 3, 40),
        Record(RecordKind.EVALUATION, 1, 0, 0, 4, bits(7.0)),
        Record(RecordKind.STOP, int(StopReason.SOLVED), 0, 0, 4, 40),
    ]


# --- Any order of events --------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """In any order of events, the counters match the accepted updates."""

    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(evaluation_interval=35, max_steps=150)
        self.held: dict[int, int] = {}
        self.updates, self.steps, self.total = 0, 0, 0.0

    @rule(target=workers, worker=st.integers(0, 3), generation=st.integers(0, 2))
    def join(self, worker: int, generation: int) -> int:
        if worker in self.held or self.bench.server.stopped:
            with pytest.raises(ProtocolError, match=f"worker {worker} joins"):
                self.bench.server.join(worker, generation)
            return worker
        snapshot = self.bench.server.join(worker, generation)
        assert snapshot.version == self.updates
        self.held[worker] = self.updates
        return worker

    @rule(worker=consumes(workers))
    def leave(self, worker: int) -> None:
        self.bench.server.leave(worker)
        self.held.pop(worker, None)

    @rule(worker=workers, steps=st.integers(0, 20), gradient=st.sampled_from([-1.0, 0.5, 2.0]))
    def contribute(self, worker: int, steps: int, gradient: float) -> None:
        if worker not in self.held:
            return
        stopped = self.bench.server.stopped
        given = worker_update(self.held[worker], steps, gradient=gradient)
        answers = self.bench.server.receive(worker, given)
        if not stopped:
            self.updates, self.steps = self.updates + 1, self.steps + steps
            self.total -= 0.5 * gradient
        if self.bench.server.stopped:
            assert answers == {}
        else:
            assert list(answers) == [worker]
            assert answers[worker].version == self.updates
            self.held[worker] = self.updates

    @rule(worker=st.integers(0, 3), off_by=st.sampled_from([-1, 1, 5]))
    def break_the_protocol(self, worker: int, off_by: int) -> None:
        given = worker_update(self.held.get(worker, 0) + off_by)
        if self.bench.server.stopped:
            assert self.bench.server.receive(worker, given) == {}
            return
        with pytest.raises(ValueError, match=f"worker {worker}"):
            self.bench.server.receive(worker, given)

    @rule(reason=st.sampled_from([StopReason.INTERRUPTED, StopReason.MAX_SECONDS]))
    def stop(self, reason: StopReason) -> None:
        if self.updates > 5:
            self.bench.server.stop(reason)
            assert self.bench.server.stopped

    @invariant()
    def counts_agree(self) -> None:
        server = self.bench.server
        assert (server.version, server.steps) == (self.updates, self.steps)
        np.testing.assert_allclose(server.snapshot().parameters, self.total)
        assert len(self.bench.of(Updated)) == self.updates
        assert len(self.bench.of(Stopped)) == int(server.stopped)
        assert server.stopped or self.steps < 150
        steps = [event.steps for event in self.bench.of(Evaluated)]
        assert all(b - a >= 35 for a, b in zip([0, *steps], steps[:-1], strict=False))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=30, stateful_step_count=30)
