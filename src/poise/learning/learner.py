"""Learners: change the parameters with the workers' gradients or trajectories."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from poise.learning.compiler import Compiler, ProgramOfAnyShape
from poise.learning.discipline import mean_gradient
from poise.learning.optimizer import OptimizerState, Update
from poise.trajectory import Gradient, Trajectory, WorkerUpdate

__all__ = [
    "GradientLearner",
    "Learned",
    "Learner",
    "ProtocolError",
    "TrajectoryLearner",
    "join_trajectories",
]


class ProtocolError(ValueError):
    """A worker violated the protocol between workers and server."""


class Learned(NamedTuple):
    """The result of a change of the parameters."""

    parameters: Any
    """``[P]`` float32."""
    optimizer_state: OptimizerState
    metrics: np.ndarray | None
    """``[K]`` float32 metrics to log; None if each worker's update has its own."""


@runtime_checkable
class Learner(Protocol):
    """Changes the parameters with a batch of updates."""

    def __call__(
        self,
        parameters: Any,
        optimizer_state: OptimizerState,
        updates: Sequence[tuple[int, WorkerUpdate]],
        learning_rate: float,
        version: int,
    ) -> Learned:
        """Learn from updates.

        Args:
            parameters: ``[P]`` float32.
            optimizer_state: the shared optimizer's state.
            updates: (worker, update) pairs, all finite, in the order of summation.
            learning_rate: the current learning rate.
            version: version of the parameters; with the learner's seed, the only source of
                randomness.
        """


class GradientLearner:
    """Applies the mean of the workers' gradients.

    Args:
        update: the optimizer's update function, made by `make_optimizer`.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        self._rate_value = math.nan
        self._rate: Any = None

    def __call__(
        self,
        parameters: Any,
        optimizer_state: OptimizerState,
        updates: Sequence[tuple[int, WorkerUpdate]],
        learning_rate: float,
        version: int,
    ) -> Learned:
        """Apply the mean gradient."""
        gradient = mean_gradient([_gradient(*update) for update in updates])
        if self._rate_value != learning_rate:
            # Kept, because converting a number takes as long as ten arrays of JAX.
            self._rate_value, self._rate = learning_rate, jax.device_put(np.float32(learning_rate))
        applied = self._update(
            parameters, optimizer_state, gradient.vector, gradient.norm, self._rate
        )
        return Learned(*applied, None)


Learn = Callable[[Any, OptimizerState, Trajectory, Any, Any], tuple[Any, OptimizerState, Any]]
"""A pure function (parameters, optimizer state, batch, learning rate, key data) -> (parameters,
optimizer state, metrics ``[K]``)."""


class TrajectoryLearner:
    """Learns from the workers' trajectories, joined to one batch.

    Args:
        learn: the algorithm's learning function, not compiled yet.
        seed: ``[2]`` uint32; all random numbers depend only on it and on the version.
        compiler: compiles it.
    """

    def __init__(self, learn: Learn, seed: np.ndarray, compiler: Compiler) -> None:
        self._seed = seed
        # If a worker is lost, the batch's shape changes.
        self._learn = ProgramOfAnyShape(compiler, "learn", learn)

    def __call__(
        self,
        parameters: Any,
        optimizer_state: OptimizerState,
        updates: Sequence[tuple[int, WorkerUpdate]],
        learning_rate: float,
        version: int,
    ) -> Learned:
        """Learn from all trajectories as one batch."""
        batch = join_trajectories([_trajectory(*update) for update in updates])
        rate = np.float32(learning_rate)
        key = np.random.SeedSequence(self._seed.tolist(), spawn_key=(version,))
        parameters, optimizer_state, metrics = self._learn(
            parameters, optimizer_state, batch, rate, key.generate_state(2, np.uint32)
        )
        return Learned(parameters, optimizer_state, np.asarray(metrics))

    def compile(self, parameters: Any, optimizer_state: OptimizerState, batch: Trajectory) -> None:
        """Compile for batches of this shape."""
        key = np.zeros(2, np.uint32)
        self._learn.compile(parameters, optimizer_state, batch, np.float32(0), key)


def join_trajectories(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Join trajectories of equal length along the copies' axis; the last one's version is kept."""

    def join(axis: int, *leaves: Any) -> np.ndarray:
        return np.concatenate([np.asarray(leaf) for leaf in leaves], axis)

    joined = {}
    for name in Trajectory._fields:
        values = [getattr(one, name) for one in trajectories]
        if name == "version":
            joined[name] = np.int32(values[-1])
        else:
            axis = 0 if name == "initial_state" else 1
            joined[name] = jax.tree.map(lambda *leaves, axis=axis: join(axis, *leaves), *values)
    return Trajectory(**joined)


def _gradient(worker: int, worker_update: WorkerUpdate) -> Gradient:
    payload = worker_update.payload
    if not isinstance(payload, Gradient):
        raise ProtocolError(f"worker {worker} sent a trajectory, but a gradient is required")
    return payload


def _trajectory(worker: int, worker_update: WorkerUpdate) -> Trajectory:
    payload = worker_update.payload
    if not isinstance(payload, Trajectory):
        raise ProtocolError(f"worker {worker} sent a gradient, but a trajectory is required")
    return payload
