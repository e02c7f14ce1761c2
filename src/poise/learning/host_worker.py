"""Workers whose environments are stepped from Python.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3. A worker acts for all copies at once and computes
its update in one XLA call. The environments are not part of the worker's state: a restarted worker
resets them with the seeds of a new generation.
"""

import functools
import threading
from typing import Any

import jax
import numpy as np

from poise.agent.acting import Acting, Actor, make_actor
from poise.agent.noise import draw_with_generator
from poise.batching import blank
from poise.envs.host_envs import Copies, HostEnvs
from poise.envs.seeding import Purpose, environment_seeds, key_data, seed_sequence
from poise.errors import TrainingError
from poise.learning.compiler import CompileOptions, Compiler
from poise.learning.reward_normalization import first_returns, follow_returns
from poise.learning.rollout import (
    RolloutState,
    advance,
    first_state,
    roll_out_in_python,
    to_trajectory,
)
from poise.learning.worker import (
    WorkerSpec,
    compute_update,
    episode_report,
    observed_moments,
)
from poise.trajectory import ActorOutput, Snapshot, StepResult, Trajectory, WorkerUpdate

__all__ = ["HostProgram", "HostWorker"]


class HostProgram:
    """Acting and computing updates, shared by all host workers of a run.

    Args:
        spec: agent, environments and algorithm, the same for all workers.
        acting: whether NumPy or XLA computes the actions.
    """

    def __init__(self, spec: WorkerSpec, acting: Acting) -> None:
        if not isinstance(spec.envs, HostEnvs):
            raise TypeError("these environments are stepped by XLA: use a JaxProgram")
        self.spec = spec
        self.envs = spec.envs
        self.acting = acting
        self.explore = spec.explore
        # Bound to these two only, not to the program, for the same reason as in `JaxProgram`.
        self._compute = functools.partial(compute_update, spec.agent, spec.algorithm)
        self.compiled_update: Any = None
        """Takes a snapshot and a trajectory; None before `compile`."""
        self._actor: Actor | None = None
        self.options: CompileOptions = {}

    def computed_shapes(self, snapshot: Snapshot) -> Any:
        """Return the shapes and dtypes of `Algorithm.compute`'s first result."""
        return jax.eval_shape(self._compute, *self._blank_arguments(snapshot))[0]

    def compile(self, snapshot: Snapshot, compiler: Compiler) -> None:
        """Compile the update computation for snapshots with these shapes."""
        self.options = compiler.options
        self.compiled_update = compiler("update", self._compute, *self._blank_arguments(snapshot))

    def actor(self) -> Actor:
        """Return an actor for one worker; with XLA, all workers share the same one."""
        if self.acting == "numpy":
            return make_actor(self.spec.agent, self.acting)
        if self._actor is None:
            self._actor = make_actor(self.spec.agent, self.acting, self.options)
        return self._actor

    def compute_update(
        self, snapshot: Snapshot, trajectory: Trajectory, discounted_returns: Any
    ) -> Any:
        """Run the compiled update computation, and compute the moments (`observed_moments`)."""
        computed = self.compiled_update(*self._arguments(snapshot, trajectory))
        moments = observed_moments(self.spec.agent, trajectory, discounted_returns)
        return (*computed, moments.absolute() if moments else ())

    def _arguments(self, snapshot: Snapshot, trajectory: Trajectory) -> tuple[Snapshot, Trajectory]:
        """Scale the observations, outside XLA because XLA has no float64 here.

        Without the statistics, which are not needed any more.
        """
        seen = self.spec.agent.observe(trajectory.observations, snapshot.statistics)
        return snapshot._replace(statistics=()), trajectory._replace(observations=seen)

    def _blank_arguments(self, snapshot: Snapshot) -> tuple[Snapshot, Trajectory]:
        return self._arguments(snapshot, self._blank_trajectory())

    def _blank_trajectory(self) -> Trajectory:
        """Make a trajectory of zeros with the right shapes."""
        agent, length, copies = self.spec.agent, self.spec.length, self.spec.copies
        flags = np.zeros(copies, np.bool_)
        observations = blank(agent.observation_space, copies)
        state = first_state(np.zeros(2), copies, (), observations, agent.initial_state(copies))
        noise = agent.head.noise(lambda kind, shape: np.zeros(shape, np.float32), (copies,))
        parameters = agent.layout.unflatten(np.zeros(agent.layout.size, np.float32))
        count = self.spec.statistics_size
        statistics = np.zeros(count), np.ones(count, np.float32)
        output = jax.eval_shape(
            jax.vmap(lambda *copy: agent.decide(parameters, statistics, *copy)),
            *(observations, state.recurrent, flags, noise),
        )
        output = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), output)
        result = StepResult(observations, np.zeros(copies), flags, flags)
        row = advance(state, output, (), result)[1]
        rows = jax.tree.map(lambda leaf: np.zeros((length, *leaf.shape), leaf.dtype), row)
        snapshot = Snapshot(np.int32(0), parameters, statistics)
        return to_trajectory(agent, self.envs.shaping, snapshot, state, rows, state)


class HostWorker:
    """A worker that steps its environments from Python."""

    def __init__(
        self, program: HostProgram, root_seed: int, index: int, generation: int = 0
    ) -> None:
        self._program = program
        self.index = index
        self.generation = generation
        self._seeds = environment_seeds(root_seed, index, generation, program.spec.copies)
        self._key = key_data(seed_sequence(root_seed, Purpose.ROLLOUT, index, generation))
        self._act = program.actor()
        self._copies: Copies | None = None
        self._is_new = False
        self._lives = 0
        self._released = False
        self._root_seed = root_seed
        # `release` waits with this lock until the current cycle is over.
        self._busy = threading.Lock()

    @property
    def is_checkpointable(self) -> bool:
        """False: the states of its environments are not available."""
        return False

    @property
    def seed(self) -> int:
        """The seed of the worker's first environment copy."""
        return self._seeds[0]

    def open(self) -> None:
        """Make the environments; `initial_state` resets them."""
        self.close()
        self._copies = self._program.envs.copies(self._program.spec.copies)
        self._is_new = True

    def initial_state(self) -> RolloutState:
        """Reset the environments, which are first made unless `open` has just made them."""
        return self._begin(0)

    def _begin(self, cycle: int) -> RolloutState:
        program = self._program
        if self._copies is None or not self._is_new:
            self.open()
        assert self._copies is not None, "they are open"
        self._released = self._is_new = False
        copies, recurrent = (
            program.spec.copies,
            program.spec.agent.initial_state(program.spec.copies),
        )
        observation = self._copies.reset(self._seeds)
        state = first_state(self._key, copies, (), observation, recurrent)
        returns = first_returns(program.envs.shaping, copies)
        return state._replace(
            cycle=cycle, episode_return=np.zeros(copies), discounted_return=returns
        )

    def release(self) -> None:
        """Close the environments after the current cycle; the next cycle makes new ones."""
        with self._busy:
            if self._copies is None:
                return
            self.close()
            self._released = True
            self._lives += 1
            self._seeds = environment_seeds(
                self._root_seed, self.index, self.generation, self._program.spec.copies, self._lives
            )

    def close(self) -> None:
        """Close the environments."""
        if self._copies is not None:
            self._copies.close()
            self._copies = None

    def describe_activity(self) -> str:
        """Describe what the environments are doing or did last."""
        return "" if self._copies is None else self._copies.describe_activity()

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[WorkerUpdate, RolloutState]:
        """Act for T steps, then compute the update."""
        with self._busy:
            if self._released:
                state = self._begin(state.cycle)
            return self._cycle(snapshot, state)

    def _cycle(self, snapshot: Snapshot, before: RolloutState) -> tuple[WorkerUpdate, RolloutState]:
        if self._copies is None:
            raise TrainingError(f"worker {self.index} has no environments: it was closed")
        program, vector = self._program, np.asarray(snapshot.parameters)

        def act(*copies: Any) -> ActorOutput:
            return self._act(vector, snapshot.statistics, *copies)

        noise = self._noise(before.cycle, snapshot.version)
        rolled_out = roll_out_in_python(act, self._copies.step, before, noise)
        shaping = program.envs.shaping
        rows, after = follow_returns(shaping, before, *rolled_out)
        snapshot = snapshot._replace(version=np.int32(snapshot.version))
        trajectory = to_trajectory(program.spec.agent, shaping, snapshot, before, rows, after)
        computed, metrics, steps, statistics = program.compute_update(
            snapshot, trajectory, rows.discounted_return
        )
        metrics = np.asarray(metrics)
        worker_update = WorkerUpdate(
            version=int(snapshot.version),
            payload=program.spec.algorithm.payload(computed),
            statistics=statistics,
            metrics=metrics,
            steps=int(steps),
            episodes=episode_report(rows.episodes, metrics, program.envs.name),
        )
        if not worker_update.is_finite:
            worker_update = worker_update._replace(evidence=trajectory)
        return worker_update, after

    def _noise(self, cycle: int, version: Any) -> list[Any]:
        """Draw the acting noise of each step of a rollout.

        It depends on the worker's seed and the cycle, and its size may depend on the version.
        """
        seed = np.random.SeedSequence(self._key.tolist(), spawn_key=(cycle,))
        draw = draw_with_generator(np.random.Generator(np.random.PCG64(seed)))
        spec = self._program.spec
        noise = spec.agent.head.noise(draw, (spec.length, spec.copies))
        explore = self._program.explore
        if explore is not None:
            noise = explore(noise, np.int32(version), draw)
        leaves, structure = jax.tree.flatten(noise)
        return [jax.tree.unflatten(structure, step) for step in zip(*leaves, strict=True)]
