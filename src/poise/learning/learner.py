"""What becomes of the updates that have come: gradients are applied, trajectories learned from."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

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
    """A worker did what it may not do at this point."""


class Learned(NamedTuple):
    """What a change of the parameters led to."""

    parameters: Any
    """``[P]`` float32."""
    optimizer_state: OptimizerState
    metrics: np.ndarray | None
    """``[K]`` float32, what is logged; None where each update brings its own."""


@runtime_checkable
class Learner(Protocol):
    """Changes the parameters by the updates that have come."""

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
            optimizer_state: of the shared optimizer.
            updates: (worker, update), all finite, in the order in which they are summed.
            learning_rate: the step size now.
            version: of these parameters; the only other thing that randomness may depend on.
        """


class GradientLearner:
    """Applies the mean of the gradients that workers bring.

    Args:
        update: as `make_optimizer` makes it.
    """

    def __init__(self, update: Update) -> None:
        self._update = update

    def __call__(
        self,
        parameters: Any,
        optimizer_state: OptimizerState,
        updates: Sequence[tuple[int, WorkerUpdate]],
        learning_rate: float,
        version: int,
    ) -> Learned:
        """Apply their mean."""
        gradient = mean_gradient([_gradient(*update) for update in updates])
        rate = np.float32(learning_rate)
        applied = self._update(parameters, optimizer_state, gradient.vector, gradient.norm, rate)
        return Learned(*applied, None)


Learn = Callable[[Any, OptimizerState, Trajectory, Any, Any], tuple[Any, OptimizerState, Any]]
"""(parameters, optimizer state, batch, learning rate, key data) -> (parameters, optimizer state,
metrics ``[K]``); pure."""


class TrajectoryLearner:
    """Learns from the trajectories that workers bring, as one batch.

    Args:
        learn: the algorithm's, to be compiled.
        seed: ``[2]`` uint32; what is drawn depends on it and on the version.
        options: XLA's compile options.
    """

    def __init__(self, learn: Learn, seed: np.ndarray, options: dict[str, Any]) -> None:
        self._seed = seed
        # Another number of workers, one of them lost, is another shape, and compiles anew.
        self._learn = jax.jit(learn, compiler_options=options or None)

    def __call__(
        self,
        parameters: Any,
        optimizer_state: OptimizerState,
        updates: Sequence[tuple[int, WorkerUpdate]],
        learning_rate: float,
        version: int,
    ) -> Learned:
        """Learn from all of them at once."""
        batch = join_trajectories([_trajectory(*update) for update in updates])
        rate = np.float32(learning_rate)
        key = np.random.SeedSequence(self._seed.tolist(), spawn_key=(version,))
        parameters, optimizer_state, metrics = self._learn(
            parameters, optimizer_state, batch, rate, key.generate_state(2, np.uint32)
        )
        return Learned(parameters, optimizer_state, np.asarray(metrics))

    def compile(self, parameters: Any, optimizer_state: OptimizerState, batch: Trajectory) -> None:
        """Compile for batches like this one; what it leads to is thrown away."""
        self._learn(parameters, optimizer_state, batch, np.float32(0), np.zeros(2, np.uint32))


def join_trajectories(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Trajectories of one length as one, their copies side by side; the version is the last's."""

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
        raise ProtocolError(f"worker {worker} brings a trajectory, but gradients are applied")
    return payload


def _trajectory(worker: int, worker_update: WorkerUpdate) -> Trajectory:
    payload = worker_update.payload
    if not isinstance(payload, Trajectory):
        raise ProtocolError(f"worker {worker} brings a gradient, but trajectories are learned from")
    return payload
