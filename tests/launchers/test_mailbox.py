"""Mailboxes: a reader gets exactly what was written, or an error."""

import multiprocessing
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from poise.launchers.mailbox import Mailbox, MailboxShape, TornMessageError
from poise.maths.statistics import Moments
from poise.trajectory import EpisodeReport, Gradient, Snapshot, Trajectory, WorkerUpdate

ALIGNMENT = 64


class State(NamedTuple):
    """State of a worker."""

    cycle: Any
    flags: np.ndarray
    parts: dict[str, np.ndarray]


STATE = State(np.int32(5), np.array([True, False]), {"x": np.arange(6.0).reshape(2, 3)})
LIKE = State(np.int32(0), np.zeros(2, np.bool_), {"x": np.zeros((2, 3))})


def new_box(state: Any = ()) -> Mailbox:
    shape = MailboxShape(5, metrics=4, episodes=3, statistics=2, state=state)
    return Mailbox(multiprocessing.get_context("spawn"), shape)


@pytest.fixture
def box() -> Mailbox:
    return new_box()


@pytest.fixture
def worker_update() -> WorkerUpdate:
    moments = (np.float32(3), np.array([1, 2], np.float32), np.array([3, 4], np.float32))
    return WorkerUpdate(
        version=2**40,
        payload=Gradient(np.arange(5, dtype=np.float32), np.float32(5.5)),
        statistics=Moments(*moments),
        metrics=np.arange(4, dtype=np.float32) - 2,
        steps=12,
        episodes=EpisodeReport(np.array([1.5, -2], np.float32), np.array([3, 4], np.int32)),
    )


@pytest.fixture
def snapshot() -> Snapshot:
    statistics = (np.array([1, 2], np.float32), np.array([3, 4], np.float32))
    return Snapshot(np.int32(9), np.arange(5, dtype=np.float32), statistics)


def equal_updates(one: WorkerUpdate, other: WorkerUpdate) -> bool:
    return (
        (one.version, one.steps, one.evidence) == (other.version, other.steps, other.evidence)
        and all(map(np.array_equal, one.payload, other.payload))
        and np.array_equal(one.metrics, other.metrics, equal_nan=True)
        and all(map(np.array_equal, one.episodes, other.episodes))
        and all(map(np.array_equal, one.statistics, other.statistics))
    )


def test_an_update(box: Mailbox, worker_update: WorkerUpdate) -> None:
    box.put_update(worker_update, 7)
    found, state = box.take_update(7)
    assert equal_updates(found, worker_update)
    assert state is None


def test_a_snapshot(box: Mailbox, snapshot: Snapshot) -> None:
    box.put_snapshot(snapshot, 3)
    found, state = box.take_snapshot(3)
    assert found.version == 9
    np.testing.assert_array_equal(found.parameters, snapshot.parameters)
    assert all(map(np.array_equal, found.statistics, snapshot.statistics))
    assert state is None


def test_large_arrays_are_not_copied(
    box: Mailbox, worker_update: WorkerUpdate, snapshot: Snapshot
) -> None:
    """They are views, aligned so that XLA need not copy them."""
    box.put_update(worker_update, 1)
    box.put_snapshot(snapshot, 1)
    gradient = box.take_update(1)[0].payload.vector
    parameters = box.take_snapshot(1)[0].parameters
    for view in (gradient, parameters):
        assert view.base is not None
        assert view.ctypes.data % ALIGNMENT == 0
    box.put_update(worker_update._replace(payload=Gradient(np.full(5, 8.0, np.float32), 0)), 2)
    assert set(gradient.tolist()) == {8.0}
    box.put_snapshot(snapshot, 2)
    # An actor detects new parameters by the identity of the array.
    assert box.take_snapshot(2)[0].parameters is not parameters


def test_everything_else_is_copied(box: Mailbox, worker_update: WorkerUpdate) -> None:
    box.put_update(worker_update, 1)
    found, _ = box.take_update(1)
    blank = worker_update._replace(
        metrics=np.zeros(4, np.float32),
        statistics=Moments(np.float32(0), np.zeros(2, np.float32), np.zeros(2, np.float32)),
        episodes=EpisodeReport(np.zeros(2, np.float32), np.zeros(2, np.int32)),
    )
    box.put_update(blank, 2)
    assert equal_updates(found._replace(payload=worker_update.payload), worker_update)


def test_a_gradient_that_is_not_finite_is_copied(box: Mailbox, worker_update: WorkerUpdate) -> None:
    """It is reported later, when the worker is in its next cycle."""
    broken = worker_update._replace(metrics=np.full(4, np.nan, np.float32))
    box.put_update(broken, 1)
    found, _ = box.take_update(1)
    box.put_update(worker_update._replace(payload=Gradient(np.zeros(5, np.float32), 0)), 2)
    assert equal_updates(found, broken)


class TestState:
    """The worker's state is sent together with its update or snapshot."""

    @staticmethod
    def check(found: Any) -> None:
        assert type(found) is State
        assert found.cycle == 5
        assert found.cycle.dtype == np.int32
        assert found.cycle.shape == ()
        np.testing.assert_array_equal(found.flags, STATE.flags)
        np.testing.assert_array_equal(found.parts["x"], STATE.parts["x"])

    def test_with_an_update(self, worker_update: WorkerUpdate) -> None:
        box = new_box(LIKE)
        box.put_update(worker_update, 1, STATE)
        found, state = box.take_update(1, LIKE)
        box.put_update(worker_update, 2, LIKE)
        self.check(state)
        assert equal_updates(found, worker_update)

    def test_with_a_snapshot(self, snapshot: Snapshot) -> None:
        box = new_box(LIKE)
        box.put_snapshot(snapshot, 1, STATE)
        self.check(box.take_snapshot(1, LIKE)[1])
        box.put_snapshot(snapshot, 2)
        assert box.take_snapshot(2, LIKE)[1] is None

    def test_before_the_first_cycle(self) -> None:
        box = new_box(LIKE)
        with pytest.raises(TornMessageError):
            box.take_initial_state(LIKE)
        box.put_initial_state(STATE)
        self.check(box.take_initial_state(LIKE))

    def test_a_state_that_is_not_available_is_none(self, box: Mailbox) -> None:
        box.put_initial_state(())
        assert box.take_initial_state(()) is None


@pytest.mark.parametrize("announced", [0, 6, 8])
def test_a_message_with_another_number_is_refused(
    box: Mailbox, worker_update: WorkerUpdate, announced: int
) -> None:
    box.put_update(worker_update, 7)
    with pytest.raises(TornMessageError, match=f"message 7 instead of {announced}"):
        box.take_update(announced)


def test_every_changed_byte_is_detected(box: Mailbox, worker_update: WorkerUpdate) -> None:
    box.put_update(worker_update, 7)
    content = box.update_message.content
    for position in range(len(content)):
        content[position] ^= 0x10
        with pytest.raises(TornMessageError):
            box.take_update(7)
        content[position] ^= 0x10
    box.take_update(7)


def test_an_empty_box_holds_nothing(box: Mailbox) -> None:
    for announced in (0, 1):
        with pytest.raises(TornMessageError):
            box.take_update(announced)


def test_views_are_not_pickled(box: Mailbox, worker_update: WorkerUpdate) -> None:
    """Pickled, they would be copies, and the other process would not write to shared memory."""
    box.put_update(worker_update, 1)
    travels = jax.tree.leaves(box.update_message.__getstate__())
    assert not any(isinstance(one, np.ndarray) for one in travels)


def test_a_trajectory_is_sent_instead_of_a_gradient(worker_update: WorkerUpdate) -> None:
    """For any observations; it is a copy, so the next write does not change it."""
    generator = np.random.default_rng(0)
    flags = generator.random((3, 2)) < 0.5
    rollout = Trajectory(
        observations=(
            generator.integers(0, 255, (4, 2, 5), np.uint8),
            {"x": generator.random((4, 2))},
        ),
        actions=generator.integers(0, 3, (3, 2)).astype(np.int32),
        rewards=generator.random((3, 2), np.float32),
        terminated=flags,
        truncated=~flags,
        valid=flags,
        first=generator.random((4, 2)) < 0.5,
        initial_state=(),
        behaviour_log_probabilities=generator.random((3, 2), np.float32),
        version=np.int32(8),
    )
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), rollout)
    shape = MailboxShape(5, metrics=4, episodes=3, statistics=2, trajectory=like)
    box = Mailbox(multiprocessing.get_context("spawn"), shape)
    box.put_update(worker_update._replace(payload=rollout), 1)
    found, _ = box.take_update(1)
    other = jax.tree.map(np.zeros_like, rollout)
    box.put_update(worker_update._replace(payload=other), 2)
    assert jax.tree.all(jax.tree.map(np.array_equal, found.payload, rollout))
    with pytest.raises(TypeError, match="no room for a Gradient"):
        box.put_update(worker_update, 3)


def test_target_parameters_are_sent_with_a_snapshot(snapshot: Snapshot) -> None:
    shape = MailboxShape(5, metrics=4, episodes=3, statistics=2, has_target=True)
    box = Mailbox(multiprocessing.get_context("spawn"), shape)
    targets = np.arange(5, 10, dtype=np.float32)
    box.put_snapshot(snapshot._replace(target_parameters=targets), 1)
    np.testing.assert_array_equal(box.take_snapshot(1)[0].target_parameters, targets)
