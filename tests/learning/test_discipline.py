"""Updates that wait for each other: batches, answers to workers, and checkpoints."""

from pathlib import Path

import numpy as np
import pytest

from poise.learning.discipline import mean_gradient
from poise.learning.events import CheckpointReady, EpisodeFinished, Rejected, Updated
from poise.learning.journal import RecordKind, StopReason, UpdateDetail
from poise.learning.parameter_server import ProtocolError
from poise.trajectory import Gradient

from .fakes import Bench, result

BROKEN = np.full(5, np.nan, np.float32)


def joined(*workers: int, **settings: object) -> Bench:
    bench = Bench(discipline="synchronous", workers=len(workers), **settings)
    bench.join(*workers)
    return bench


def test_a_batch_is_applied_when_all_updates_have_arrived() -> None:
    bench = joined(0, 1, 2, learning_rate=1.0)
    assert bench.give(2, gradient=3.0) == {}
    assert bench.give(0, gradient=1.0) == {}
    assert (bench.server.version, bench.server.steps) == (0, 0)
    answers = bench.give(1, gradient=5.0)
    assert sorted(answers) == [0, 1, 2]
    assert (bench.server.version, bench.server.steps) == (1, 30)
    assert {int(one.version) for one in answers.values()} == {1}
    assert np.asarray(bench.server.snapshot().parameters).tolist() == [-3.0, -3.0]


def test_updates_are_reported_in_the_order_of_workers() -> None:
    bench = joined(0, 1, 2)
    for worker in (1, 2, 0):
        bench.give(worker, returns=[float(worker)])
    assert [(one.worker, one.update) for one in bench.of(Updated)] == [(0, 1), (1, 1), (2, 1)]
    assert [one.steps for one in bench.of(Updated)] == [10, 20, 30]
    assert [one.staleness for one in bench.of(Updated)] == [0, 0, 0]
    assert [one.episode_return for one in bench.of(EpisodeFinished)] == [0.0, 1.0, 2.0]


def test_the_journal_records_arrivals_and_changes(tmp_path: Path) -> None:
    bench = joined(0, 1)
    bench.give(1)
    bench.give(0)
    records = bench.written(tmp_path).records[2:]
    assert [(one.kind, one.detail, one.worker) for one in records] == [
        (RecordKind.UPDATE, UpdateDetail.WAITS, 1),
        (RecordKind.UPDATE, UpdateDetail.WAITS, 0),
        (RecordKind.CHANGE, 0, 0),
    ]
    assert (records[-1].version, records[-1].value) == (1, 20)


def test_a_lost_worker_is_not_waited_for() -> None:
    bench = joined(0, 1, 2, learning_rate=1.0)
    bench.give(0, gradient=1.0)
    bench.give(1, gradient=2.0)
    answers = bench.server.leave(2, permanently=True)
    assert sorted(answers) == [0, 1]
    assert np.asarray(bench.server.snapshot().parameters).tolist() == [-1.5, -1.5]
    assert bench.server.leave(1) == {}


def test_a_restarted_worker_is_waited_for() -> None:
    bench = joined(0, 1)
    bench.give(0)
    assert bench.server.leave(1) == {}
    bench.join(1)
    assert sorted(bench.give(1)) == [0, 1]


def test_a_worker_that_has_not_joined_yet_is_waited_for() -> None:
    bench = Bench(discipline="synchronous", workers=2)
    bench.join(0)
    assert bench.give(0) == {}
    bench.join(1)
    assert sorted(bench.give(1)) == [0, 1]


def test_a_worker_that_never_joins_is_not_waited_for_once_it_is_lost(tmp_path: Path) -> None:
    bench = Bench(discipline="synchronous", workers=2)
    bench.join(0)
    bench.give(0)
    answers = bench.server.leave(1, permanently=True)
    assert sorted(answers) == [0]
    bench.snapshots.update(answers)
    kinds = [(one.kind, one.detail, one.worker) for one in bench.written(tmp_path).records[2:]]
    assert kinds == [(RecordKind.LEAVE, 1, 1), (RecordKind.CHANGE, 0, 0)]
    assert bench.server.run_state().lost == (1,)
    bench.join(1)
    assert bench.server.run_state().lost == ()
    assert bench.give(0) == {}


def test_the_pending_update_of_a_leaving_worker_is_dropped() -> None:
    bench = joined(0, 1, 2, learning_rate=1.0)
    bench.give(2, gradient=7.0)
    bench.give(0, gradient=1.0)
    assert bench.server.leave(2, permanently=True) == {}
    assert sorted(bench.give(1, gradient=3.0)) == [0, 1]
    assert np.asarray(bench.server.snapshot().parameters).tolist() == [-2.0, -2.0]
    assert bench.server.steps == 20


def test_a_gradient_that_is_not_finite_is_left_out_of_the_mean() -> None:
    bench = joined(0, 1, learning_rate=1.0)
    bench.give(0, gradient=2.0)
    answers = bench.give(1, gradient=np.nan, metrics=BROKEN)
    assert sorted(answers) == [0, 1]
    assert np.asarray(bench.server.snapshot().parameters).tolist() == [-2.0, -2.0]
    assert (bench.server.version, bench.server.steps) == (1, 10)
    assert [one.worker for one in bench.of(Rejected)] == [1]


def test_a_batch_without_finite_gradients_changes_nothing() -> None:
    bench = joined(0, 1)
    bench.give(0, metrics=BROKEN)
    assert sorted(bench.give(1, metrics=BROKEN)) == [0, 1]
    assert bench.server.version == 0
    assert bench.server.bad_gradients == 2


def test_too_many_bad_gradients_end_the_run() -> None:
    bench = joined(0, 1, max_bad_gradients=1)
    bench.give(0, metrics=BROKEN)
    assert bench.give(1, metrics=BROKEN) == {}
    assert bench.server.stop_reason is StopReason.NOT_FINITE


def test_a_worker_contributes_once_per_batch() -> None:
    bench = joined(0, 1)
    bench.give(0)
    with pytest.raises(ProtocolError, match="worker 0 contributes twice"):
        bench.give(0)


def test_evaluations_are_between_batches() -> None:
    bench = Bench([result(1.0)], discipline="synchronous", workers=2, evaluation_interval=5)
    bench.join(0, 1)
    bench.give(0)
    assert bench.asked == []
    bench.give(1)
    assert [one.steps for one in bench.asked] == [20]


def test_a_checkpoint_has_no_incomplete_synchronous_batch() -> None:
    bench = joined(0, 1)
    bench.give(0)
    bench.give(1)
    whole = bench.server.run_state()
    bench.give(1)
    assert bench.server.run_state() == whole
    bench.server.stop(StopReason.INTERRUPTED)
    assert bench.of(CheckpointReady)[-1].run_state == whole


def test_with_one_worker_it_equals_the_asynchronous_discipline() -> None:
    found = []
    for discipline in ("synchronous", "asynchronous"):
        bench = Bench(discipline=discipline)
        bench.join(0)
        for gradient in (0.1, 0.7, -0.3):
            bench.give(gradient=gradient, returns=[gradient])
        found.append((bench.events, np.asarray(bench.server.snapshot().parameters).tobytes()))
    assert repr(found[0][0][1:]) == repr(found[1][0][1:])
    assert found[0][1] == found[1][1]


def test_a_mean_is_summed_in_order_and_has_its_norm() -> None:
    vectors = [np.float32([1e8, 3.0]), np.float32([-1e8, 4.0]), np.float32([1.0, 5.0])]
    mean = mean_gradient([Gradient(one, np.float32(0)) for one in vectors])
    np.testing.assert_array_equal(mean.vector, np.float32([1 / 3, 4.0]))
    np.testing.assert_allclose(mean.norm, np.hypot(1 / 3, 4.0), rtol=1e-6)
    # Another order gives another sum.
    other = mean_gradient([Gradient(vectors[at], np.float32(0)) for at in (2, 0, 1)])
    np.testing.assert_array_equal(other.vector, np.float32([0.0, 4.0]))


# --- Batched: nobody waits ------------------------------------------------------------------------


def batched(*workers: int, **settings: object) -> Bench:
    bench = Bench(discipline="batched", workers=len(workers), **settings)
    bench.join(*workers)
    return bench


def test_no_worker_waits_and_the_first_updates_fill_the_batch() -> None:
    bench = batched(0, 1, 2, learning_rate=1.0)
    for gradient in (1.0, 2.0):
        answers = bench.give(1, gradient=gradient)
        assert {worker: int(one.version) for worker, one in answers.items()} == {1: 0}
    assert bench.server.version == 0
    answers = bench.give(0, gradient=6.0)
    assert {worker: int(one.version) for worker, one in answers.items()} == {0: 1}
    assert np.asarray(bench.server.snapshot().parameters).tolist() == [-3.0, -3.0]
    assert [(one.worker, one.staleness) for one in bench.of(Updated)] == [(1, 0), (1, 0), (0, 0)]
    # Worker 1 still acts with its old snapshot, as its staleness shows.
    bench.give(1)
    bench.give(2)
    bench.give(0)
    assert [one.staleness for one in bench.of(Updated)[3:]] == [1, 1, 0]


def test_the_pending_update_of_a_leaving_worker_stays_in_the_batch() -> None:
    bench = batched(0, 1, learning_rate=1.0)
    bench.give(1, gradient=4.0)
    # With one worker left, the batch is complete, and no worker waits for an answer.
    assert bench.server.leave(1, permanently=True) == {}
    assert np.asarray(bench.server.snapshot().parameters).tolist() == [-4.0, -4.0]
    assert {int(one.version) for one in bench.give(0, gradient=1.0).values()} == {2}


def test_a_gradient_of_a_batch_that_is_not_finite_changes_nothing() -> None:
    bench = batched(0, 1, learning_rate=1.0)
    bench.give(0, gradient=np.nan, metrics=BROKEN)
    bench.give(1, gradient=2.0)
    assert np.asarray(bench.server.snapshot().parameters).tolist() == [-2.0, -2.0]
    assert (bench.server.version, bench.server.bad_gradients) == (1, 1)


def test_a_checkpoint_has_no_incomplete_batch() -> None:
    bench = batched(0, 1, 2)
    before = bench.server.run_state()
    bench.give(0)
    bench.give(0)
    assert bench.server.run_state() is not None
    assert bench.server.run_state().journal_records == before.journal_records
    assert int(bench.server.run_state().worker_records[0].snapshot.version) == 0
    bench.give(1)
    assert bench.server.run_state().version == 1


def test_no_worker_is_answered_after_the_run_has_ended() -> None:
    bench = batched(0, 1, max_steps=20)
    bench.give(0)
    assert bench.give(1) == {}
    assert bench.server.stop_reason == StopReason.MAX_STEPS
    assert bench.give(0) == {}
