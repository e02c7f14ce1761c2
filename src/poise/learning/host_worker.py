"""Workers whose environments Python steps: act for all copies at once, differentiate in one call.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3. The environments themselves are not part of the
worker's state: a worker that begins anew resets them with a new generation's seeds.
"""

import threading
from typing import Any, NamedTuple

import jax
import numpy as np

from poise.agent.acting import Acting, Actor, make_actor
from poise.agent.agent import Agent
from poise.agent.noise import draw_with_generator
from poise.batching import blank
from poise.envs.host_envs import Copies, HostEnvs
from poise.envs.seeding import Purpose, environment_seeds, key_data, seed_sequence
from poise.errors import TrainingError
from poise.learning.algorithms.algorithm import Algorithm
from poise.learning.worker import (
    CompileOptions,
    compute_update,
    episode_report,
    observed_moments,
)
from poise.trajectory import Snapshot, Trajectory, WorkerUpdate

__all__ = ["HostProgram", "HostState", "HostWorker"]


class HostState(NamedTuple):
    """What a worker carries from one cycle to the next, beside its environments."""

    cycle: int
    """Rollouts done."""
    observation: Any
    """Pytree of ``[N, ...]``: the current observations."""
    ended: np.ndarray
    """``[N]`` bool: the next step only resets."""
    first: np.ndarray
    """``[N]`` bool: the current observation begins an episode."""
    elapsed: np.ndarray
    """``[N]`` int32: steps in the unfinished episode."""
    episode_return: np.ndarray
    """``[N]`` float64: sum of rewards of the unfinished episode."""
    recurrent: Any
    """Pytree of ``[N, ...]``: the network's recurrent state."""


class HostProgram:
    """What all hosted workers of a run share: how to act and how to compute a trajectory.

    Args:
        agent: what decides.
        envs: what happens.
        algorithm: what a worker makes of its rollout.
        copies: environment copies N.
        length: rollout length T.
        acting: whether NumPy or XLA acts.
    """

    def __init__(
        self,
        agent: Agent,
        envs: HostEnvs,
        algorithm: Algorithm,
        copies: int,
        length: int,
        acting: Acting,
    ) -> None:
        self.agent = agent
        self.envs = envs
        self.copies = copies
        self.length = length
        self.acting = acting
        self.algorithm = algorithm
        self._compute_update: Any = None
        self._actor: Actor | None = None
        self.options: CompileOptions = {}

    def compile(self, snapshot: Snapshot, options: CompileOptions) -> None:
        """Compile the gradient for snapshots like this one."""
        self.options = options

        def run(parameters: Any, trajectory: Trajectory) -> Any:
            return compute_update(self.agent, self.algorithm, parameters, trajectory)

        blank_trajectory = self._seen(self._blank_trajectory(), snapshot)
        lowered = jax.jit(run).lower(snapshot.parameters, blank_trajectory)
        self._compute_update = lowered.compile(compiler_options=dict[str, Any](options))

    def actor(self) -> Actor:
        """What acts for one worker; XLA's program is shared by all, NumPy's network is not."""
        if self.acting == "numpy":
            return make_actor(self.agent, self.acting)
        if self._actor is None:
            self._actor = make_actor(self.agent, self.acting, self.options)
        return self._actor

    def compute_update(self, snapshot: Snapshot, trajectory: Trajectory) -> Any:
        """Run the compiled gradient; beside it, what the observations add to the statistics."""
        computed = self._compute_update(snapshot.parameters, self._seen(trajectory, snapshot))
        moments = observed_moments(self.agent, trajectory)
        return (*computed, moments.absolute() if moments else ())

    def _seen(self, trajectory: Trajectory, snapshot: Snapshot) -> Trajectory:
        """With observations as the network sees them; outside of XLA, which has no float64."""
        seen = self.agent.observe(trajectory.observations, snapshot.statistics)
        return trajectory._replace(observations=seen)

    def _blank_trajectory(self) -> Trajectory:
        length, copies = self.length, self.copies
        noise = self.agent.head.noise(lambda kind, shape: np.zeros(shape, np.float32), (copies,))
        state = self.agent.initial_state(copies)
        observations = blank(self.agent.observation_space, copies)
        network = self.agent.network(np.zeros(self.agent.layout.size, np.float32))
        statistics = np.zeros(self.agent.scaling.count), np.ones(self.agent.scaling.count)
        decision = jax.eval_shape(
            jax.vmap(lambda *copy: self.agent.decide(network, statistics, *copy)),
            observations,
            state,
            np.zeros(copies, np.bool_),
            noise,
        )

        def rows(count: int) -> Any:
            return lambda leaf: np.zeros((count, *leaf.shape), leaf.dtype)

        flags = np.zeros((length, copies), np.bool_)
        return Trajectory(
            observations=jax.tree.map(rows(length + 1), observations),
            actions=jax.tree.map(rows(length), decision.action),
            rewards=np.zeros((length, copies), np.float32),
            terminated=flags,
            truncated=flags,
            valid=flags,
            first=np.zeros((length + 1, copies), np.bool_),
            initial_state=state,
            behaviour_log_probabilities=np.zeros((length, copies), np.float32),
            version=np.int32(0),
        )


class HostWorker:
    """A worker that steps its environments from Python."""

    def __init__(
        self, program: HostProgram, root_seed: int, index: int, generation: int = 0
    ) -> None:
        self._program = program
        self.index = index
        self.generation = generation
        self._seeds = environment_seeds(root_seed, index, generation, program.copies)
        self._key = key_data(seed_sequence(root_seed, Purpose.ROLLOUT, index, generation))
        self._act = program.actor()
        self._copies: Copies | None = None
        self._is_new = False
        self._lives = 0
        self._released = False
        self._root_seed = root_seed
        # Whoever wants the environments closed waits for the cycle under way.
        self._busy = threading.Lock()

    @property
    def is_checkpointable(self) -> bool:
        """Its environments' states are not available."""
        return False

    @property
    def seed(self) -> int:
        """The seed of its first environment copy."""
        return self._seeds[0]

    def open(self) -> None:
        """Make the environments, for `initial_state` to reset them."""
        self.close()
        self._copies = self._program.envs.copies(self._program.copies)
        self._is_new = True

    def initial_state(self) -> HostState:
        """Reset the environments, which are made unless they have just been."""
        return self._begin(0)

    def _begin(self, cycle: int) -> HostState:
        program = self._program
        if self._copies is None or not self._is_new:
            self.open()
        assert self._copies is not None, "they are open"
        self._released = self._is_new = False
        return HostState(
            cycle=cycle,
            observation=self._copies.reset(self._seeds),
            ended=np.zeros(program.copies, np.bool_),
            first=np.ones(program.copies, np.bool_),
            elapsed=np.zeros(program.copies, np.int32),
            episode_return=np.zeros(program.copies, np.float64),
            recurrent=program.agent.initial_state(program.copies),
        )

    def release(self) -> None:
        """Close the environments, when the cycle under way is over, until the next one."""
        with self._busy:
            if self._copies is None:
                return
            self.close()
            self._released = True
            self._lives += 1
            self._seeds = environment_seeds(
                self._root_seed, self.index, self.generation, self._program.copies, self._lives
            )

    def close(self) -> None:
        """Close the environments."""
        if self._copies is not None:
            self._copies.close()
            self._copies = None

    def describe_activity(self) -> str:
        """What its environments do, or did last."""
        return "" if self._copies is None else self._copies.describe_activity()

    def cycle(self, snapshot: Snapshot, state: HostState) -> tuple[WorkerUpdate, HostState]:
        """Act for T steps, then differentiate."""
        with self._busy:
            if self._released:
                state = self._begin(state.cycle)
            return self._cycle(snapshot, state)

    def _cycle(self, snapshot: Snapshot, state: HostState) -> tuple[WorkerUpdate, HostState]:
        if self._copies is None:
            raise TrainingError(f"worker {self.index} has no environments: it was closed")
        parameters = np.asarray(snapshot.parameters)
        noise = self._noise(state.cycle)
        rows: list[tuple[Any, ...]] = []
        returns, lengths = [], []
        recurrent = state.recurrent
        observation, ended, first = state.observation, state.ended, state.first
        elapsed, total = state.elapsed, state.episode_return
        for draw in noise:
            decision = self._act(
                parameters, snapshot.statistics, observation, recurrent, first, draw
            )
            following, rewards, terminated, truncated = self._copies.step(
                decision.environment_action
            )
            valid = ~ended
            terminated, truncated = terminated & valid, truncated & valid
            rewards = rewards * valid
            total = total * ~first + rewards
            elapsed = (elapsed + 1) * valid
            rows.append(
                (
                    observation,
                    decision.action,
                    decision.parameters,
                    (rewards, terminated, truncated, valid, first),
                )
            )
            finished = terminated | truncated
            if finished.any():
                returns.append(total[finished])
                lengths.append(elapsed[finished])
            observation, recurrent = following, decision.state
            first, ended = ended, finished
        trajectory = self._trajectory(snapshot, state, rows, observation, first)
        computed, metrics, steps, statistics = self._program.compute_update(snapshot, trajectory)
        metrics = np.asarray(metrics)
        worker_update = WorkerUpdate(
            version=int(snapshot.version),
            payload=self._program.algorithm.payload(computed, metrics),
            statistics=statistics,
            metrics=metrics,
            steps=int(steps),
            episodes=episode_report(
                np.concatenate(returns) if returns else np.zeros(0),
                np.concatenate(lengths) if lengths else np.zeros(0, np.int32),
                metrics,
                self._program.envs.name,
            ),
        )
        if not worker_update.is_finite:
            worker_update = worker_update._replace(evidence=trajectory)
        after = HostState(
            cycle=state.cycle + 1,
            observation=observation,
            ended=ended,
            first=first,
            elapsed=elapsed,
            episode_return=total,
            recurrent=recurrent,
        )
        return worker_update, after

    def _noise(self, cycle: int) -> list[Any]:
        """The acting noise of each step of a rollout, by the worker's seed and the cycle."""
        seed = np.random.SeedSequence(self._key.tolist(), spawn_key=(cycle,))
        draw = draw_with_generator(np.random.Generator(np.random.PCG64(seed)))
        length = self._program.length
        noise = self._program.agent.head.noise(draw, (length, self._program.copies))
        leaves, structure = jax.tree.flatten(noise)
        return [jax.tree.unflatten(structure, step) for step in zip(*leaves, strict=True)]

    def _trajectory(
        self,
        snapshot: Snapshot,
        state: HostState,
        rows: list[tuple[Any, ...]],
        last: Any,
        first: np.ndarray,
    ) -> Trajectory:
        observations, actions, parameters, flags = zip(*rows, strict=True)
        rewards, terminated, truncated, valid, firsts = (
            np.array(column) for column in zip(*flags, strict=True)
        )
        actions = _columns(actions)
        shaped = self._program.envs.shaping(rewards.astype(np.float32), terminated)
        scores = self._program.agent.head.log_probability(_columns(parameters), actions)
        return Trajectory(
            observations=_columns((*observations, last)),
            actions=actions,
            rewards=np.asarray(shaped, np.float32),
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            first=np.concatenate([firsts, first[None]]),
            initial_state=state.recurrent,
            behaviour_log_probabilities=np.asarray(scores, np.float32),
            version=np.int32(snapshot.version),
        )


def _columns(rows: tuple[Any, ...]) -> Any:
    """Pytrees ``[N, ...]``, one a step, as one ``[T, N, ...]``."""
    return jax.tree.map(lambda *steps: np.array(steps), *rows)
