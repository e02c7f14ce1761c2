"""A host worker is compared with a literal re-implementation: one copy, one step at a time."""

from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
import pytest

from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.agent.gradient import actor_critic_gradient
from poise.agent.noise import draw_with_generator
from poise.envs.env_factory import EnvFactory
from poise.envs.host_envs import HostEnvs
from poise.envs.reward_shaping import RewardShaping
from poise.envs.seeding import Purpose, environment_seed, key_data, seed_sequence
from poise.errors import EnvironmentFailureError, TrainingError
from poise.learning.algorithms.a3c import A3C
from poise.learning.compiler import Compiler, compile_options
from poise.learning.host_worker import HostProgram, HostWorker
from poise.learning.journal import Journal
from poise.learning.learner import GradientLearner
from poise.learning.parameter_server import ParameterServer, ServerSettings
from poise.learning.worker import Worker, WorkerSpec
from poise.maths.statistics import Moments, normalization
from poise.trajectory import Snapshot, Trajectory, WorkerUpdate

from ..environments import ACTION_SPACES, OBSERVATION_SPACES, Ends, Faulty, Toy

COPIES, LENGTH, CYCLES = 3, 7, 4
LOSS: dict[str, Any] = {
    "discount": 0.9,
    "gae_lambda": 0.8,
    "normalize_advantages": False,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.01,
}
ALGORITHM = A3C(**LOSS)
FAST = compile_options("cpu") | {"xla_backend_optimization_level": 0}
SPEC = NetworkSpec((8,))
SHAPING = RewardShaping(failure_reward=-3.0, scale=0.5, clip=2.0)


class Watched(HostProgram):
    """Keeps the trajectories that updates are computed from."""

    def compute_update(self, snapshot: Snapshot, trajectory: Trajectory, returns: Any) -> Any:
        self.seen = [*getattr(self, "seen", []), trajectory]
        return super().compute_update(snapshot, trajectory, returns)


def build_components(
    factory: Any,
    acting: Any = "numpy",
    shaping: RewardShaping = SHAPING,
    spec: NetworkSpec = SPEC,
) -> Watched:
    envs = HostEnvs.open(EnvFactory("toy", factory), "copies", shaping)
    agent, parameters = build_agent(
        envs.observation_space,
        envs.action_space,
        spec,
        seed_sequence(0, Purpose.PARAMETERS),
    )
    program = Watched(WorkerSpec(agent, envs, ALGORITHM, COPIES, LENGTH), acting)
    program.parameters = parameters
    return program


def compiled(program: Watched, statistics: Any = ()) -> tuple[Watched, Snapshot]:
    snapshot = Snapshot(np.int32(4), program.parameters, statistics)
    program.compile(snapshot, Compiler(FAST))
    return program, snapshot


@pytest.fixture(scope="module")
def ends() -> tuple[Watched, Snapshot]:
    return compiled(build_components(Ends))


def run(program: Watched, snapshot: Snapshot, **which: Any) -> tuple[list[Any], list[Trajectory]]:
    program.seen = []
    worker = HostWorker(program, **{"root_seed": 1, "index": 2, **which})
    state = worker.initial_state()
    worker_updates = []
    for _ in range(CYCLES):
        worker_update, state = worker.cycle(snapshot, state)
        worker_updates.append(worker_update)
    worker.close()
    return worker_updates, program.seen


class Literal(NamedTuple):
    """The expected content of one rollout, as lists ``[T][N]``."""

    observations: list[Any]
    actions: list[Any]
    rewards: list[Any]
    terminated: list[Any]
    truncated: list[Any]
    valid: list[Any]
    first: list[Any]
    episodes: list[tuple[float, int]]


class CheckedEnv:
    """One copy of an environment, with its state between steps."""

    def __init__(self, environment: gymnasium.Env[Any, Any], seed: int) -> None:
        self.environment = environment
        self.observation, _ = environment.reset(seed=seed)
        self.ended = False
        self.first = True
        self.total = 0.0
        self.steps = 0


def shaped(reward: float, terminated: bool) -> float:
    if terminated:
        reward = -3.0
    return max(-2.0, min(2.0, reward * 0.5))


def literally(agent: Agent, factory: Any, snapshot: Snapshot, root: int, index: int) -> Any:
    """Compute a worker's rollouts literally, following Gymnasium's documentation."""
    seeds = [
        environment_seed(seed_sequence(root, Purpose.ENVIRONMENT, index, 0, copy))
        for copy in range(COPIES)
    ]
    copies = [CheckedEnv(factory(), seed) for seed in seeds]
    key = key_data(seed_sequence(root, Purpose.ROLLOUT, index, 0)).tolist()
    for cycle in range(CYCLES):
        sequence = np.random.SeedSequence(key, spawn_key=(cycle,))
        draw = draw_with_generator(np.random.Generator(np.random.PCG64(sequence)))
        noise = agent.head.noise(draw, (LENGTH, COPIES))
        rows = Literal([], [], [], [], [], [], [], [])
        for now in range(LENGTH):
            row: Any = Literal([], [], [], [], [], [], [], rows.episodes)
            for number, copy in enumerate(copies):
                row.observations.append(copy.observation)
                row.first.append(copy.first)
                parameters, _, _ = agent.apply(
                    snapshot.parameters, copy.observation, (), copy.first
                )
                action = agent.head.sample(parameters, noise[now, number])
                row.actions.append(int(action))
                row.valid.append(not copy.ended)
                if copy.ended:
                    copy.observation, _ = copy.environment.reset()
                    copy.ended, copy.first = False, True
                    copy.total, copy.steps = 0.0, 0
                    row.rewards.append(0.0)
                    row.terminated.append(False)
                    row.truncated.append(False)
                    continue
                step = copy.environment.step(int(agent.head.to_environment(action)))
                copy.observation, reward, terminated, truncated, _ = step
                copy.total += reward
                copy.steps += 1
                copy.first = False
                copy.ended = terminated or truncated
                row.rewards.append(shaped(reward, terminated))
                row.terminated.append(terminated)
                row.truncated.append(truncated)
                if copy.ended:
                    rows.episodes.append((copy.total, copy.steps))
            for column, value in zip(rows[:-1], row[:-1], strict=True):
                column.append(value)
        rows.observations.append([copy.observation for copy in copies])
        rows.first.append([copy.first for copy in copies])
        yield rows


@pytest.mark.parametrize("root", [0, 5])
def test_trajectories_are_those_of_a_plain_loop(ends: Any, root: int) -> None:
    program, snapshot = ends
    worker_updates, trajectories = run(program, snapshot, root_seed=root)
    expected = list(literally(program.spec.agent, Ends, snapshot, root, 2))
    for found, literal in zip(trajectories, expected, strict=True):
        np.testing.assert_array_equal(found.observations, literal.observations)
        np.testing.assert_array_equal(found.actions, literal.actions)
        np.testing.assert_allclose(found.rewards, literal.rewards, rtol=1e-6)
        np.testing.assert_array_equal(found.terminated, literal.terminated)
        np.testing.assert_array_equal(found.truncated, literal.truncated)
        np.testing.assert_array_equal(found.valid, literal.valid)
        np.testing.assert_array_equal(found.first, literal.first)
        assert found.version == 4
    for worker_update, literal in zip(worker_updates, expected, strict=True):
        assert worker_update.steps == np.sum(literal.valid)
        episodes = list(
            zip(worker_update.episodes.returns, worker_update.episodes.lengths, strict=True)
        )
        assert episodes == literal.episodes
    flat = [np.concatenate([getattr(one, name) for one in trajectories]) for name in FLAGS]
    assert all(0 < np.mean(one) < 1 for one in flat)
    assert np.any(flat[0] & flat[1])


FLAGS = ("terminated", "truncated", "valid", "first")


def test_the_gradient_is_that_of_its_trajectory(ends: Any) -> None:
    program, snapshot = ends
    worker_updates, trajectories = run(program, snapshot)

    @jax.jit
    def differentiate(parameters: Any, trajectory: Trajectory) -> Any:
        return actor_critic_gradient(program.spec.agent, parameters, trajectory, **LOSS)

    for worker_update, trajectory in zip(worker_updates, trajectories, strict=True):
        gradient, losses = differentiate(snapshot.parameters, trajectory)
        np.testing.assert_allclose(worker_update.payload.vector, gradient, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(worker_update.metrics, losses, rtol=1e-3, atol=1e-5)
        assert worker_update.evidence is None
        assert worker_update.version == 4


def test_it_is_a_worker(ends: Any) -> None:
    worker = HostWorker(ends[0], 0, 3, generation=2)
    assert isinstance(worker, Worker)
    assert (worker.index, worker.generation, worker.is_checkpointable) == (3, 2, False)
    worker.close()


def same(one: list[WorkerUpdate], other: list[WorkerUpdate]) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_worker_is_a_function_of_its_seeds(ends: Any) -> None:
    def gradients(**which: Any) -> list[Any]:
        return [one.payload.vector for one in run(*ends, **which)[0]]

    assert same(gradients(), gradients())
    for other in ({"root_seed": 3}, {"index": 3}, {"generation": 1}):
        assert not np.array_equal(gradients()[0], gradients(**other)[0])


def test_every_copy_worker_and_generation_has_its_own_seed(ends: Any) -> None:
    seeds = [
        seed
        for index in range(3)
        for generation in range(3)
        for seed in HostWorker(ends[0], 0, index, generation)._seeds
    ]
    assert len(set(seeds)) == len(seeds) == 9 * COPIES


def test_a_worker_can_be_reset_again(ends: Any) -> None:
    program, snapshot = ends
    worker = HostWorker(program, 0, 0)
    first, _ = worker.cycle(snapshot, worker.initial_state())
    again, state = worker.cycle(snapshot, worker.initial_state())
    assert same([first], [again])
    worker.close()
    with pytest.raises(TrainingError, match="closed"):
        worker.cycle(snapshot, state)


@pytest.mark.parametrize("acting", ["numpy", "xla"])
def test_numpy_and_xla_choose_the_same_actions(acting: Any) -> None:
    """Results are not equal to the last bit, but no decision here is close enough to differ."""
    program, snapshot = compiled(build_components(Ends, acting))
    _, trajectories = run(program, snapshot)
    literal = list(literally(program.spec.agent, Ends, snapshot, 1, 2))
    np.testing.assert_array_equal(trajectories[-1].actions, literal[-1].actions)


@pytest.mark.parametrize("acting", ["numpy", "xla"])
def test_nested_spaces(acting: Any) -> None:
    def make() -> Toy:
        return Toy(OBSERVATION_SPACES["tuple"], ACTION_SPACES["nested"])

    program, snapshot = compiled(build_components(make, acting, RewardShaping()))
    worker_updates, trajectories = run(program, snapshot)
    assert np.isfinite(worker_updates[-1].payload.vector).all()
    category, numbers = trajectories[0].observations
    assert category.shape == (LENGTH + 1, COPIES)
    assert numbers.shape == (LENGTH + 1, COPIES, 3)


def test_a_failing_environment_says_which_copy() -> None:
    program, snapshot = compiled(build_components(lambda: Faulty("raises", at=LENGTH + 2)))
    worker = HostWorker(program, 0, 0)
    _, state = worker.cycle(snapshot, worker.initial_state())
    with pytest.raises(EnvironmentFailureError, match=f"copy 0, seed {worker.seed}, last action"):
        worker.cycle(snapshot, state)
    worker.close()


@pytest.mark.slow
def test_statistics_add_up_to_the_moments_of_all_observations() -> None:
    """Chan's merging, over workers and cycles, is compared with one pass in float64."""

    def make() -> Toy:
        return Toy(OBSERVATION_SPACES["everything"], ACTION_SPACES["discrete"])

    spec = NetworkSpec((8,), normalize_observations=True)
    program = build_components(make, "xla", RewardShaping(), spec)
    size = 4
    begin = Moments(np.zeros(()), np.zeros(size), np.zeros(size))
    program, _ = compiled(program, normalization(begin))
    server = ParameterServer(
        program.parameters,
        (),
        GradientLearner(lambda parameters, state, gradient, norm, rate: (parameters, state)),
        ServerSettings(1.0, None, None, None, 10**9, None, False),
        lambda snapshot: pytest.fail("nothing is due"),
        lambda event: None,
        Journal(),
        begin,
    )
    seen: list[np.ndarray] = []
    workers = [HostWorker(program, 0, index) for index in range(2)]
    states = [worker.initial_state() for worker in workers]
    snapshots = [server.join(index) for index in range(2)]
    assert [one.tolist() for one in snapshots[0].statistics] == [[0.0] * size, [1.0] * size]
    for turn in range(6):
        index = turn % 2
        program.seen = []
        worker_update, states[index] = workers[index].cycle(snapshots[index], states[index])
        trajectory = program.seen[0]
        rows = program.spec.agent.scaling.gather(trajectory.observations)[:-1]
        seen.append(rows.reshape(-1, size)[trajectory.valid.reshape(-1)])
        assert worker_update.statistics.number == len(seen[-1])
        snapshots[index] = server.receive(index, worker_update)[index]
    every = np.concatenate(seen).astype(np.float64)
    mean, scale = server.snapshot().statistics
    np.testing.assert_allclose(mean, every.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scale, 1 / every.std(axis=0), rtol=1e-5)
    moments = server.run_state().moments
    assert moments is not None
    assert moments.number == len(every)
    np.testing.assert_allclose(moments.squares / len(every), every.var(axis=0), rtol=1e-5)
    for worker in workers:
        worker.close()
