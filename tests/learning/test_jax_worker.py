"""A compiled worker: the content of its updates, and purity of its cycle."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from poise.agent.gradient import actor_critic_gradient
from poise.learning.compiler import compile_options
from poise.learning.jax_worker import JaxProgram, JaxWorker
from poise.learning.rollout import roll_out, to_trajectory
from poise.learning.worker import Worker
from poise.maths.statistics import Moments, normalization
from poise.trajectory import Snapshot, WorkerUpdate

from .probes import COPIES, FAST, LENGTH, LOSS, DelayedReward, Probe, new_server, program


class Ragged(DelayedReward):
    """Episodes of 2 or 4 steps; the reward is the step's number."""

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[1] >= jax.numpy.where(state[0] > 0, 2.0, 4.0)


class Cycles(NamedTuple):
    worker_updates: list[WorkerUpdate]
    states: list[Any]


@pytest.fixture(scope="module")
def ragged() -> JaxProgram:
    return program(Ragged())


@pytest.fixture(scope="module")
def snapshot(ragged: JaxProgram) -> Snapshot:
    return new_server(ragged, 0).snapshot()


def cycles(worker: JaxWorker, snapshot: Snapshot, count: int = 3) -> Cycles:
    done = Cycles([], [worker.initial_state()])
    for _ in range(count):
        worker_update, state = worker.cycle(snapshot, done.states[-1])
        done.worker_updates.append(worker_update)
        done.states.append(state)
    return done


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_it_is_a_worker(ragged: JaxProgram) -> None:
    worker = JaxWorker(ragged, 0, 3, generation=2)
    assert isinstance(worker, Worker)
    assert (worker.index, worker.generation) == (3, 2)
    assert 0 <= worker.seed < 2**64
    worker.close()


def test_an_update_has_plain_types(ragged: JaxProgram, snapshot: Snapshot) -> None:
    found = cycles(JaxWorker(ragged, 0, 0), snapshot._replace(version=np.int32(5)), 1)
    one = found.worker_updates[0]
    assert (type(one.version), one.version) == (int, 5)
    assert type(one.steps) is int
    assert one.payload.vector.shape == (ragged.spec.agent.layout.size,)
    assert one.payload.vector.dtype == np.float32
    assert one.evidence is None
    assert one.statistics == ()
    assert one.metrics.shape == (5,)
    assert one.metrics.dtype == np.float32
    assert one.episodes.returns.dtype == np.float32
    assert one.episodes.lengths.dtype == np.int32
    np.testing.assert_allclose(one.metrics[4], np.linalg.norm(one.payload.vector), rtol=1e-5)


def test_the_gradient_is_that_of_its_rollout(ragged: JaxProgram, snapshot: Snapshot) -> None:
    agent = ragged.spec.agent
    found = cycles(JaxWorker(ragged, 0, 0), snapshot)
    envs: Any = ragged.envs
    state = found.states[1].unpack()

    def watch(snapshot: Snapshot, state: Any) -> Any:
        transitions, after = roll_out(agent, envs, snapshot, state, LENGTH)
        trajectory = to_trajectory(agent, envs.shaping, snapshot, state, transitions, after)
        return (
            trajectory,
            transitions.episodes,
            actor_critic_gradient(agent, snapshot.parameters, trajectory, **LOSS),
        )

    compiled = jax.jit(watch).lower(snapshot, state).compile(dict(FAST))
    trajectory, episodes, (gradient, losses) = compiled(snapshot, state)
    second = found.worker_updates[1]
    np.testing.assert_allclose(second.payload.vector, gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(second.metrics, losses, rtol=1e-4, atol=1e-6)
    assert second.steps == np.sum(trajectory.valid)
    # In order of time, then of copy.
    expected = [
        (float(episodes.returns[t, copy]), int(episodes.lengths[t, copy]))
        for t in range(LENGTH)
        for copy in range(COPIES)
        if episodes.finished[t, copy]
    ]
    report = second.episodes
    assert list(zip(report.returns.tolist(), report.lengths.tolist(), strict=True)) == expected


def test_steps_and_episodes_are_counted(ragged: JaxProgram, snapshot: Snapshot) -> None:
    """Episodes have 2 steps (reward 0 + 1) or 4 (0 + 1 + 2 + 3), and one reset after each."""
    found = cycles(JaxWorker(ragged, 0, 0), snapshot, 6)
    reports = [one.episodes for one in found.worker_updates]
    lengths = np.concatenate([report.lengths for report in reports])
    returns = np.concatenate([report.returns for report in reports])
    assert set(lengths.tolist()) == {2, 4}
    np.testing.assert_array_equal(returns, np.where(lengths == 2, 1.0, 6.0))
    last = found.states[-1].unpack()
    unfinished = last.elapsed[~last.ended]
    steps = sum(one.steps for one in found.worker_updates)
    assert steps == lengths.sum() + unfinished.sum()
    resets = 6 * LENGTH * COPIES - steps
    assert resets == len(lengths) - np.sum(last.ended)


def test_a_cycle_is_pure(ragged: JaxProgram, snapshot: Snapshot) -> None:
    worker = JaxWorker(ragged, 0, 0)
    done = cycles(worker, snapshot)
    again = worker.cycle(snapshot, done.states[1])
    assert same(again, (done.worker_updates[1], done.states[2]))


def test_the_same_worker_contributes_the_same(ragged: JaxProgram, snapshot: Snapshot) -> None:
    one, other = (cycles(JaxWorker(ragged, 7, 2, 1), snapshot) for _ in range(2))
    assert same(one, other)


@pytest.mark.parametrize("other", [(8, 2, 1), (7, 3, 1), (7, 2, 2), (7, 1, 2)])
def test_other_seeds_workers_and_generations_contribute_other_updates(
    other: tuple[int, int, int], ragged: JaxProgram, snapshot: Snapshot
) -> None:
    worker, different = JaxWorker(ragged, 7, 2, 1), JaxWorker(ragged, *other)
    assert worker.seed != different.seed
    mine, theirs = cycles(worker, snapshot, 1), cycles(different, snapshot, 1)
    assert not same(mine.worker_updates, theirs.worker_updates)


def test_each_cycle_has_its_own_randomness(ragged: JaxProgram, snapshot: Snapshot) -> None:
    gradients = [one.payload.vector for one in cycles(JaxWorker(ragged, 0, 0), snapshot, 5)[0]]
    assert len({np.asarray(one).tobytes() for one in gradients}) == 5


class Shifted(Probe):
    """Observations of 5 or 7, and 100 more at the end of the episode."""

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[:1] + 6.0 + 100.0 * state[1:]


def test_statistics_are_of_the_valid_observations() -> None:
    statistics = normalization(Moments(np.float64(0), np.zeros(1), np.zeros(1)))
    made = program(Shifted(), statistics)
    snapshot = new_server(made, 0).snapshot()._replace(statistics=statistics)
    done = cycles(JaxWorker(made, 0, 0), snapshot)
    for one in done.worker_updates:
        number, mean, squares = one.statistics
        # One of two steps only resets; its observation, from after the end, is not a sample.
        assert number == one.steps == LENGTH * COPIES / 2
        share = (mean[0] - 5.0) / 2.0
        np.testing.assert_allclose(squares[0], 4 * number * share * (1 - share), rtol=1e-4)
        assert 0.2 < share < 0.8


def test_only_the_cpu_has_compile_options() -> None:
    assert compile_options("gpu") == {}
    assert compile_options("cpu")["xla_backend_optimization_level"] == 1
