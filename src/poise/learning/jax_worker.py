"""Workers whose whole cycle is one XLA call, in which their environments are stepped too.

XLA lets go of the GIL while it runs, so that plain threads use every core.
"""

from typing import Any

import jax
import numpy as np

from poise.agent.agent import Agent
from poise.agent.noise import draw_with_key
from poise.envs.atari import AtariCopies
from poise.envs.jax_envs import JaxEnvs
from poise.envs.rollout import FinishedEpisodes, RolloutState
from poise.envs.seeding import Purpose, environment_seeds, key_data, seed_sequence
from poise.envs.xla_envs import XlaEnvs
from poise.errors import TrainingError
from poise.learning.algorithms.algorithm import Algorithm
from poise.learning.worker import (
    CompileOptions,
    compute_update,
    episode_report,
    observed_moments,
    require_finite,
)
from poise.trajectory import Snapshot, Trajectory, WorkerUpdate

__all__ = ["JaxProgram", "JaxWorker", "XlaWorker"]

_Acted = tuple[Trajectory, FinishedEpisodes, RolloutState]


class JaxProgram:
    """A worker's whole cycle as one XLA call, shared by all workers of a run.

    Args:
        agent: what decides.
        envs: what happens.
        algorithm: what a worker makes of its rollout.
        copies: environment copies N.
        length: rollout length T.
    """

    def __init__(
        self,
        agent: Agent,
        envs: JaxEnvs | XlaEnvs,
        algorithm: Algorithm,
        copies: int,
        length: int,
    ) -> None:
        self.agent = agent
        self.envs = envs
        self.copies = copies
        self.length = length
        self.algorithm = algorithm
        self._compiled: Any = None

        # Not a method: the program would hold a function that holds the program, and only Python's
        # cyclic collector would ever free what is compiled. It runs seldom, because it counts
        # Python's objects and does not see XLA's megabytes behind them.
        def act(snapshot: Snapshot, state: RolloutState) -> _Acted:
            network = agent.network(snapshot.parameters)
            return envs.rollout(
                lambda *copy: agent.decide(network, snapshot.statistics, *copy),
                agent.head.log_probability,
                lambda key, batch: agent.head.noise(draw_with_key(key), batch),
                snapshot.version,
                state,
                length,
            )

        self._act = act
        self._trajectory = jax.jit(act)

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[Any, RolloutState]:
        """The cycle: act, compute, differentiate. Traced once, by `compile`.

        What cannot be done again to be looked at (a rollout that is not pure) is part of the
        outcome.
        """
        trajectory, finished, after = self._act(snapshot, state)
        kept = () if self.envs.is_pure else trajectory
        seen = self.agent.observe(trajectory.observations, snapshot.statistics)
        seen_by_network = trajectory._replace(observations=seen)
        computed = compute_update(self.agent, self.algorithm, snapshot.parameters, seen_by_network)
        statistics = observed_moments(self.agent, trajectory)
        return (*computed, statistics, finished, kept), after

    def trajectory(self, snapshot: Snapshot, state: RolloutState) -> Trajectory:
        """The trajectory of a pure cycle, once more; compiled when it is first wanted."""
        trajectory: Trajectory = jax.tree.map(np.asarray, self._trajectory(snapshot, state)[0])
        return trajectory

    def initial_state(self, key: np.ndarray) -> RolloutState:
        """A worker's state before its first cycle."""
        recurrent = self.agent.initial_state(self.copies)
        return self.envs.initial_state(key, self.copies, recurrent)

    def compile(self, snapshot: Snapshot, options: CompileOptions) -> None:
        """Compile the cycle for snapshots like this one (seconds; XLA works outside the GIL)."""
        state = self.initial_state(np.zeros(2, np.uint32))
        lowered = jax.jit(self.cycle).lower(snapshot, state)
        self._compiled = lowered.compile(compiler_options=dict[str, Any](options))

    def __call__(
        self, snapshot: Snapshot, state: RolloutState
    ) -> tuple[WorkerUpdate, RolloutState]:
        """Run the compiled cycle.

        Raises:
            EnvironmentFailureError: an observation or a reward is not finite.
        """
        outcome, after = self._compiled(snapshot, state)
        computed, metrics, steps, statistics, finished, kept = outcome
        # To NumPy at once: what JAX's own arrays do takes ten times as long.
        metrics = np.asarray(metrics)
        mask = np.asarray(finished.finished)
        worker_update = WorkerUpdate(
            version=int(snapshot.version),
            payload=self.algorithm.payload(computed, metrics),
            statistics=statistics.absolute() if statistics else (),
            metrics=metrics,
            steps=np.asarray(steps).item(),
            episodes=episode_report(
                np.asarray(finished.returns)[mask],
                np.asarray(finished.lengths)[mask],
                metrics,
                self.envs.name,
            ),
        )
        if not worker_update.is_finite:
            evidence = kept
            if self.envs.is_pure:
                evidence = self.trajectory(snapshot, state)
            evidence = jax.tree.map(np.asarray, evidence)
            require_finite(evidence, self.envs.name)
            worker_update = worker_update._replace(evidence=evidence)
        return worker_update, after


class JaxWorker:
    """A worker whose environments are compiled: they are part of its state."""

    def __init__(
        self, program: JaxProgram, root_seed: int, index: int, generation: int = 0
    ) -> None:
        self._program = program
        self.index = index
        self.generation = generation
        self._key = key_data(seed_sequence(root_seed, Purpose.ROLLOUT, index, generation))

    @property
    def is_checkpointable(self) -> bool:
        """Its environments are part of its state."""
        return True

    @property
    def seed(self) -> int:
        """The key of its environments, as one number."""
        return int(self._key[0]) << 32 | int(self._key[1])

    def initial_state(self) -> RolloutState:
        """The state before its first cycle."""
        return self._program.initial_state(self._key)

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[WorkerUpdate, RolloutState]:
        """One XLA call, outside the GIL."""
        return self._program(snapshot, state)

    def describe_activity(self) -> str:
        """A compiled environment cannot hang in a step that could be named."""
        return ""

    def close(self) -> None:
        """Nothing is held."""


class XlaWorker:
    """A worker whose environments XLA steps, but does not hold: emulators of its own."""

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
        self._seeds = environment_seeds(root_seed, index, generation, program.copies)
        self._emulators: AtariCopies | None = None

    @property
    def is_checkpointable(self) -> bool:
        """Its emulators' states are not available."""
        return False

    @property
    def seed(self) -> int:
        """The seed of its first environment copy."""
        return self._seeds[0]

    def initial_state(self) -> RolloutState:
        """Make and reset the emulators; the state holds their handle."""
        self.close()
        self._emulators = self._envs.copies(self._program.copies)
        state = self._program.initial_state(self._key)
        return self._envs.begin(state, self._emulators, self._seeds)

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[WorkerUpdate, RolloutState]:
        """One XLA call, outside the GIL."""
        # Held until the call is over: its handle must not outlive the emulators, not even in a
        # thread that was left behind when the run was closed.
        emulators = self._emulators
        if emulators is None:
            raise TrainingError(f"worker {self.index} has no environments: it was closed")
        worker_update, after = self._program(snapshot, state)
        del emulators
        return worker_update, after

    def describe_activity(self) -> str:
        """Emulators cannot hang in a step that could be named."""
        return ""

    def close(self) -> None:
        """Close the emulators."""
        if self._emulators is not None:
            self._emulators.close()
            self._emulators = None
