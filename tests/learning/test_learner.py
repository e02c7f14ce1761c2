"""Learners: gradients are averaged, trajectories are joined and learned from."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from poise.learning.compiler import Compiler
from poise.learning.events import Rejected, Updated
from poise.learning.journal import StopReason
from poise.learning.learner import (
    GradientLearner,
    ProtocolError,
    TrajectoryLearner,
    join_trajectories,
)
from poise.trajectory import Gradient, Trajectory, WorkerUpdate

from .fakes import Bench, plain_update, worker_update

SEED = np.uint32([3, 4])


def trajectory(number: float, copies: int = 2) -> Trajectory:
    """Make a trajectory in which all numbers are the same."""

    def full(*shape: int) -> np.ndarray:
        return np.full(shape, number, np.float32)

    flags = np.zeros((3, copies), np.bool_)
    return Trajectory(
        observations={"a": full(4, copies, 5), "b": full(4, copies)},
        actions=full(3, copies),
        rewards=full(3, copies),
        terminated=flags,
        truncated=flags,
        valid=~flags,
        first=np.zeros((4, copies), np.bool_),
        initial_state=full(copies, 7),
        behaviour_log_probabilities=full(3, copies),
        version=np.int32(0),
    )


def brings(number: float, version: int = 0) -> WorkerUpdate:
    return worker_update(version, metrics=[0.0])._replace(payload=trajectory(number))


def learn(parameters: Any, state: Any, batch: Trajectory, rate: Any, key: Any) -> Any:
    """The parameters become the sum of the rewards; the metrics are the loss and the key."""
    total = batch.rewards.sum()
    metrics = jnp.stack([rate * total, *key.astype(jnp.float32)])
    return parameters * 0 + total, state + 1, metrics


def learner(seed: np.ndarray = SEED) -> TrajectoryLearner:
    return TrajectoryLearner(learn, seed, Compiler({}))


def test_trajectories_are_joined_along_the_copies() -> None:
    joined = join_trajectories([trajectory(1), trajectory(2, copies=3)])
    assert joined.observations["a"].shape == (4, 5, 5)
    assert joined.initial_state.shape == (5, 7)
    assert joined.rewards[0].tolist() == [1, 1, 2, 2, 2]
    assert joined.initial_state[:, 0].tolist() == [1, 1, 2, 2, 2]
    assert joined.first.shape == (4, 5)


def test_a_batch_is_learned_from_at_once() -> None:
    made = learner()
    learned = made(np.zeros(2, np.float32), 0, [(0, brings(1)), (1, brings(2))], 0.5, 7)
    assert np.asarray(learned.parameters).tolist() == [18.0, 18.0]
    assert learned.optimizer_state == 1
    assert learned.metrics is not None
    assert learned.metrics[0] == 9.0


def test_random_numbers_depend_only_on_seed_and_version() -> None:
    def key(version: int, seed: np.ndarray = SEED, number: float = 1) -> list[float]:
        learned = learner(seed)(np.zeros(2, np.float32), 0, [(0, brings(number))], 0.5, version)
        assert learned.metrics is not None
        found: list[float] = learned.metrics[1:].tolist()
        return found

    assert key(1) == key(1, number=2)
    assert key(1) != key(2)
    assert key(1) != key(1, np.uint32([3, 5]))


def test_a_wrong_kind_of_payload_is_an_error() -> None:
    made = learner()
    with pytest.raises(ProtocolError, match="worker 3 sent a gradient"):
        made(np.zeros(2, np.float32), 0, [(3, worker_update(0))], 0.5, 0)
    with pytest.raises(ProtocolError, match="worker 3 sent a trajectory"):
        GradientLearner(plain_update)(np.zeros(2), 0, [(3, brings(1))], 0.5, 0)


def bench(**settings: Any) -> Bench:
    made = Bench(
        learner=learner(),
        discipline="synchronous",
        workers=2,
        metrics=("loss", "one", "other"),
        **settings,
    )
    made.join(0, 1)
    return made


def test_the_server_logs_the_learners_metrics() -> None:
    made = bench(learning_rate=0.5)
    assert made.server.receive(0, brings(1)) == {}
    assert sorted(made.server.receive(1, brings(2))) == [0, 1]
    assert np.asarray(made.server.snapshot().parameters).tolist() == [18.0, 18.0]
    assert [one.metrics["loss"] for one in made.of(Updated)] == [9.0, 9.0]
    assert (made.server.version, made.server.steps) == (1, 20)


def test_a_batch_whose_result_is_not_finite_is_rejected_once() -> None:
    made = bench(max_bad_gradients=1)
    for number in (1, 2):
        made.server.receive(1, brings(1))
        made.server.receive(0, brings(np.inf))
        assert np.asarray(made.server.snapshot().parameters).tolist() == [0.0, 0.0]
        assert made.server.bad_gradients == number
        # The journal's last update is the rejected one.
        assert made.server.run_state().last_worker == 1
    assert made.server.version == 0
    assert [one.worker for one in made.of(Rejected)] == [1, 1]
    assert made.server.stop_reason == StopReason.NOT_FINITE


def test_if_learning_fails_the_state_is_the_one_before_the_batch() -> None:
    class Failing:
        def __call__(self, *given: Any, **named: Any) -> Any:
            raise MemoryError("the batch is too large")

    made = Bench(learner=Failing(), discipline="synchronous", workers=2)
    made.join(0, 1)
    before = made.server.run_state()
    made.server.receive(0, brings(1))
    with pytest.raises(MemoryError):
        made.server.receive(1, brings(1))
    made.server.stop(StopReason.FAILED)
    after = made.server.run_state()
    assert (after.journal_records, after.last_worker) == (before.journal_records, None)


def test_too_many_bad_updates_end_the_run_after_the_evaluation_that_was_due() -> None:
    """A replay does not know how many are too many: it evaluates, then stops as the run did."""
    made = Bench(discipline="synchronous", workers=2, evaluation_interval=5, max_bad_gradients=0)
    made.join(0, 1)
    made.give(0)
    made.give(1, gradient=np.nan, metrics=np.full(5, np.nan))
    assert [int(one.version) for one in made.evaluated_by] == [1]
    assert made.server.stop_reason == StopReason.NOT_FINITE


def test_a_gradient_is_copied_if_its_worker_continues_before_it_is_applied() -> None:
    made = Bench(discipline="batched", workers=2, learning_rate=1.0)
    made.join(0, 1)
    shared = np.ones(2, np.float32)
    made.server.receive(0, worker_update(0)._replace(payload=Gradient(shared, np.float32(1))))
    shared[:] = 100.0
    made.server.receive(1, worker_update(0, gradient=3.0))
    assert np.asarray(made.server.snapshot().parameters).tolist() == [-2.0, -2.0]


# --- Target networks ------------------------------------------------------------------------------


def test_the_target_network_is_updated_at_intervals() -> None:
    made = Bench(target_interval=25, learning_rate=1.0)
    made.join(0)
    seen = []
    for _ in range(5):
        seen.append(np.asarray(made.snapshots[0].target_parameters)[0])
        made.give(gradient=1.0)
    # With 10 steps per update, intervals end after 30 and 50 steps.
    assert seen == [0.0, 0.0, 0.0, -3.0, -3.0]
    assert np.asarray(made.server.snapshot().target_parameters)[0] == -5.0
    again = Bench(target_interval=25, learning_rate=1.0)
    again.server.resume(made.server.run_state())
    assert np.asarray(again.server.snapshot().target_parameters)[0] == -5.0


def test_without_a_target_network_there_are_no_target_parameters() -> None:
    made = Bench()
    made.join(0)
    assert made.snapshots[0].target_parameters == ()
