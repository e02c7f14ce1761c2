"""Workers whose whole cycle, including the environments' steps, is one XLA call.

XLA releases the GIL while it runs, so plain threads can use all cores.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poise.envs.host_envs import HostEnvs
from poise.envs.seeding import Purpose, environment_seeds, key_data, seed_sequence
from poise.envs.xla_envs import XlaCopies, XlaEnvs
from poise.errors import TrainingError
from poise.learning.compiler import Compiler, travels_in_programs
from poise.learning.packed_state import PackedState, StatePacking
from poise.learning.reward_normalization import first_returns, follow_returns
from poise.learning.rollout import (
    FinishedEpisodes,
    RolloutState,
    Transition,
    first_state,
    roll_out,
    to_trajectory,
)
from poise.learning.worker import (
    WorkerSpec,
    compute_update,
    episode_report,
    observed_moments,
    require_finite,
)
from poise.trajectory import NO_EPISODES, EpisodeReport, Snapshot, Trajectory, WorkerUpdate

__all__ = ["JaxProgram", "JaxWorker", "XlaWorker"]


class _Packed(NamedTuple):
    """The results of a cycle in few arrays, because each takes microseconds to return and read."""

    computed: Any
    """The first result of `Algorithm.compute`."""
    numbers: Any
    """``[K + 2]`` int32: the bits of the metrics (float32); valid steps; finished episodes."""
    episodes: Any
    """``[2, T, N]`` int32: lengths of the finished episodes, 0 where none finished; the bits of
    their returns (float32)."""
    statistics: Any
    """The moments of observations and returns; ``()`` if nothing is normalised."""
    kept: Any
    """The trajectory, if the cycle cannot be repeated; otherwise ``()``."""


class JaxProgram:
    """The compiled cycle, shared by all workers of a run."""

    def __init__(self, spec: WorkerSpec) -> None:
        agent, envs = spec.agent, spec.envs
        if isinstance(envs, HostEnvs):
            raise TypeError("these environments are stepped from Python: use a HostProgram")
        self.spec = spec
        self.envs = envs
        self._compiled: Any = None
        self._follows_version = spec.algorithm.follows_version

        # Not a method: the program and its function would refer to each other, and the compiled
        # code would be freed only by Python's cyclic garbage collector. That runs rarely, because
        # it counts Python objects and does not see the megabytes that XLA holds.
        def act(
            snapshot: Snapshot, state: RolloutState
        ) -> tuple[Trajectory, Transition, RolloutState]:
            rolled_out = roll_out(agent, envs, snapshot, state, spec.length, spec.explore)
            transitions, after = follow_returns(envs.shaping, state, *rolled_out)
            rollout = to_trajectory(agent, envs.shaping, snapshot, state, transitions, after)
            return rollout, transitions, after

        self._act = act
        self._trajectory = jax.jit(act)

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[Any, RolloutState]:
        """Act for one rollout and compute the update. Traced once, by `compile`.

        A rollout that is not pure cannot be repeated to inspect it, so it is part of the result.
        """
        agent = self.spec.agent
        trajectory, transitions, after = self._act(snapshot, state)
        kept = () if self.envs.is_pure else trajectory
        seen = agent.observe(trajectory.observations, snapshot.statistics)
        seen_by_network = trajectory._replace(observations=seen)
        computed = compute_update(agent, self.spec.algorithm, snapshot, seen_by_network)
        statistics = observed_moments(agent, trajectory, transitions.discounted_return)
        return (*computed, statistics, transitions.episodes, kept), after

    def trajectory(self, snapshot: Snapshot, state: RolloutState) -> Trajectory:
        """Repeat a pure cycle to get its trajectory; compiled on first use."""
        trajectory: Trajectory = jax.tree.map(np.asarray, self._trajectory(snapshot, state)[0])
        return trajectory

    @functools.cached_property
    def _packing(self) -> StatePacking:
        return StatePacking(self.blank_state)

    @functools.cached_property
    def blank_state(self) -> RolloutState:
        """A worker's state before its first cycle, with a key of zeros."""
        copies = self.spec.copies
        environment, observation = self.envs.blank(copies)
        recurrent = self.spec.agent.initial_state(copies)
        state = first_state(np.zeros(2), copies, environment, observation, recurrent)
        return state._replace(discounted_return=first_returns(self.envs.shaping, copies))

    def initial_state(self, key: np.ndarray) -> RolloutState:
        """Return a worker's state before its first cycle."""
        return self.blank_state._replace(key=np.asarray(key, np.uint32))

    def computed_shapes(self, snapshot: Snapshot) -> Any:
        """Return the shapes and dtypes of `Algorithm.compute`'s first result."""
        return jax.eval_shape(self.cycle, snapshot, self.blank_state)[0][0]

    def _packed_cycle(
        self,
        version: Any,
        parameters: Any,
        statistics: Any,
        target_parameters: Any,
        *packed: Any,
    ) -> tuple[_Packed, tuple[Any, list[Any]]]:
        """Run `cycle` with a packed state, and pack its results.

        The version is ``()`` if the algorithm does not follow it: a NumPy scalar takes as long as
        ten arrays of JAX.
        """
        version = version if self._follows_version else jnp.int32(0)
        snapshot = Snapshot(version, parameters, statistics, target_parameters)
        outcome, after = self.cycle(snapshot, self._packing.unpack(*packed))
        computed, metrics, steps, moments, episodes, kept = outcome
        counts = jnp.stack([steps, jnp.sum(episodes.finished, dtype=jnp.int32)])
        lengths = jnp.where(episodes.finished, episodes.lengths, jnp.int32(0))
        results = _Packed(
            computed,
            jnp.concatenate([_bits(metrics), counts]),
            jnp.stack([lengths, _bits(episodes.returns)]),
            moments,
            kept,
        )
        return results, self._packing.pack(after)

    def compile(self, snapshot: Snapshot, compiler: Compiler) -> None:
        """Compile the cycle for snapshots with these shapes (takes seconds; releases the GIL)."""
        packed = self._packing.pack(self.blank_state)
        travels_in_programs(_Packed)
        self._compiled = compiler("cycle", self._packed_cycle, *self._arguments(snapshot), *packed)

    def _arguments(self, snapshot: Snapshot) -> tuple[Any, ...]:
        """Return the snapshot's fields as the compiled cycle takes them."""
        version = np.int32(snapshot.version) if self._follows_version else ()
        return version, *snapshot[1:]

    def __call__(
        self, snapshot: Snapshot, state: RolloutState | PackedState
    ) -> tuple[WorkerUpdate, PackedState]:
        """Run the compiled cycle.

        Raises:
            EnvironmentFailureError: an observation or a reward is not finite.
        """
        if not isinstance(state, PackedState):
            state = PackedState(self._packing, *self._packing.pack(state))
        version = snapshot.version
        packed, after = self._compiled(*self._arguments(snapshot), *state.arrays)
        # Converted to NumPy right away: operations on JAX arrays take ten times as long.
        numbers = np.asarray(packed.numbers)
        metrics = numbers[:-2].view(np.float32)
        steps, finished = numbers[-2:].tolist()
        payload = self.spec.algorithm.payload(packed.computed)
        if isinstance(payload, Trajectory):
            payload = payload._replace(version=np.int32(version))
        worker_update = WorkerUpdate(
            version=int(version),
            payload=payload,
            statistics=packed.statistics.absolute() if packed.statistics else (),
            metrics=metrics,
            steps=steps,
            episodes=NO_EPISODES if not finished else self._episodes(packed.episodes, metrics),
        )
        if not worker_update.is_finite:
            evidence = packed.kept
            if self.envs.is_pure:
                evidence = self.trajectory(snapshot, state.unpack())
            evidence = jax.tree.map(np.asarray, evidence)
            evidence = evidence._replace(version=np.int32(version))
            require_finite(evidence, self.envs.name)
            worker_update = worker_update._replace(evidence=evidence)
        return worker_update, PackedState(self._packing, *after)

    def _episodes(self, packed: Any, metrics: np.ndarray) -> EpisodeReport:
        lengths, bits = np.asarray(packed)
        episodes = FinishedEpisodes(lengths > 0, bits.view(np.float32), lengths)
        return episode_report(episodes, metrics, self.envs.name)


def _bits(numbers: Any) -> Any:
    """Return the bits of numbers, as int32."""
    return jax.lax.bitcast_convert_type(numbers.astype(jnp.float32), jnp.int32)


class JaxWorker:
    """A worker with compiled environments, which are part of its state."""

    def __init__(
        self, program: JaxProgram, root_seed: int, index: int, generation: int = 0
    ) -> None:
        self._program = program
        self.index = index
        self.generation = generation
        self._key = key_data(seed_sequence(root_seed, Purpose.ROLLOUT, index, generation))

    @property
    def is_checkpointable(self) -> bool:
        """True: the environments are part of the worker's state."""
        return True

    @property
    def seed(self) -> int:
        """The worker's JAX key, as one number."""
        return int(self._key[0]) << 32 | int(self._key[1])

    def initial_state(self) -> RolloutState:
        """Return the state before the first cycle."""
        return self._program.initial_state(self._key)

    def cycle(
        self, snapshot: Snapshot, state: RolloutState | PackedState
    ) -> tuple[WorkerUpdate, PackedState]:
        """Run the cycle as one XLA call, outside the GIL."""
        return self._program(snapshot, state)

    def describe_activity(self) -> str:
        """Return an empty string: a compiled environment has no separate step that could hang."""
        return ""

    def close(self) -> None:
        """Do nothing: the worker holds no resources."""


class XlaWorker:
    """A worker whose own environments are stepped by XLA, which does not hold their state."""

    def __init__(
        self,
        program: JaxProgram,
        envs: XlaEnvs,
        root_seed: int,
        index: int,
        generation: int = 0,
    ) -> None:
        self._program = program
        self._envs = envs
        self.index = index
        self.generation = generation
        self._key = key_data(seed_sequence(root_seed, Purpose.ROLLOUT, index, generation))
        self._seeds = environment_seeds(root_seed, index, generation, program.spec.copies)
        self._copies: XlaCopies | None = None

    @property
    def is_checkpointable(self) -> bool:
        """False: the environments' states are not available."""
        return False

    @property
    def seed(self) -> int:
        """The seed of the worker's first environment copy."""
        return self._seeds[0]

    def initial_state(self) -> RolloutState:
        """Make and reset the environments; the state holds their handle."""
        self.close()
        self._copies = self._envs.copies(self._program.spec.copies)
        handle, observation = self._envs.start(self._copies, self._seeds)
        state = self._program.initial_state(self._key)
        return state._replace(environment=handle, observation=observation)

    def cycle(
        self, snapshot: Snapshot, state: RolloutState | PackedState
    ) -> tuple[WorkerUpdate, PackedState]:
        """Run the cycle as one XLA call, outside the GIL."""
        # Keep a reference until the call is over: the environments must live as long as their
        # handle is used, even in a thread that was abandoned when the run was closed.
        copies = self._copies
        if copies is None:
            raise TrainingError(f"worker {self.index} has no environments: it was closed")
        worker_update, after = self._program(snapshot, state)
        del copies
        return worker_update, after

    def describe_activity(self) -> str:
        """Return an empty string: the environments' steps cannot be observed from outside."""
        return ""

    def close(self) -> None:
        """Close the environments."""
        if self._copies is not None:
            self._copies.close()
            self._copies = None
