"""Mailboxes: one slot for a worker's update and one for its snapshot, in shared memory.

Arrays are returned as views, which are valid until the other side writes again; it does so only
after it has been answered. XLA reads a snapshot's parameters and a gradient directly from shared
memory, so nothing large is copied twice.
"""

import math
from multiprocessing.context import SpawnContext
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import load, save

from poise.launchers.shared_message import SharedMessage, TornMessageError
from poise.maths.statistics import Moments
from poise.trajectory import EpisodeReport, Gradient, Snapshot, Trajectory, WorkerUpdate

__all__ = ["Mailbox", "MailboxShape", "TornMessageError", "pack_batch", "unpack_batch"]


class MailboxShape(NamedTuple):
    """Sizes of the parts of a mailbox.

    Attributes:
        parameters: P, length of the parameter vector.
        metrics: K, number of metrics logged for each update.
        episodes: maximum number of episodes that one rollout can finish.
        statistics: S, length of the normalisers' statistics; None without a normaliser.
        state: a worker's state (a pytree of arrays); ``()`` if it is not available.
        trajectory: a rollout's structure (arrays, or shapes and dtypes), if workers send rollouts
            instead of gradients; otherwise None.
        has_target: whether snapshots hold a target network's parameters.
        observed: how many of the statistics are of the observations, and so belong to policies.
    """

    parameters: int
    metrics: int
    episodes: int
    statistics: int | None
    state: Any = ()
    trajectory: Trajectory | None = None
    has_target: bool = False
    observed: int = 0

    @property
    def gradient_size(self) -> int:
        """Length of the gradient in an update; 0 if workers send trajectories."""
        return self.parameters if self.trajectory is None else 0


class Mailbox:
    """The two slots of one worker; picklable to a spawned child.

    Args:
        context: the spawn context.
        shape: sizes of their parts.
    """

    def __init__(self, context: SpawnContext, shape: MailboxShape) -> None:
        self._episodes = shape.episodes
        self._has_statistics = shape.statistics is not None
        self._trajectory = shape.trajectory
        self._has_target = shape.has_target
        count, state = (shape.statistics or 0,), (_byte_count(shape.state),)
        self.update_message = SharedMessage(
            context,
            [
                ("gradient", "f4", (shape.gradient_size,)),
                ("norm", "f4", ()),
                ("version", "i8", ()),
                ("steps", "i8", ()),
                ("episodes", "i8", ()),
                ("metrics", "f4", (shape.metrics,)),
                ("returns", "f4", (shape.episodes,)),
                ("lengths", "i4", (shape.episodes,)),
                ("number", "f8", ()),
                ("mean", "f8", count),
                ("squares", "f8", count),
                ("state", "u1", state),
                ("trajectory", "u1", (_byte_count(shape.trajectory),)),
            ],
            checked=True,
        )
        self.snapshot_message = SharedMessage(
            context,
            [
                ("parameters", "f4", (shape.parameters,)),
                ("target_parameters", "f4", (shape.parameters if shape.has_target else 0,)),
                ("version", "i8", ()),
                ("mean", "f8", count),
                ("scale", "f4", count),
                ("has_state", "u1", ()),
                ("state", "u1", state),
            ],
            # It is written by the parent, which no child outlives.
            checked=False,
        )

    def put_initial_state(self, state: Any) -> None:
        """Write a worker's state before its first cycle, as message 0."""
        _write(self.update_message.parts["state"], state)
        self.update_message.seal(0)

    def take_initial_state(self, like: Any) -> Any:
        """Copy out the state before the first cycle; None if it is not available.

        Raises:
            TornMessageError: the message is incomplete.
        """
        return _read(self.update_message.take(0)["state"], like)

    def put_update(self, worker_update: WorkerUpdate, sequence: int, state: Any = ()) -> None:
        """Write an update, and the worker's new state if that is available."""
        parts = self.update_message.parts
        parts["version"][...] = worker_update.version
        parts["steps"][...] = worker_update.steps
        returns, lengths = worker_update.episodes
        count = len(returns)
        parts["episodes"][...] = count
        parts["metrics"][...] = worker_update.metrics
        parts["returns"][:count] = returns
        parts["lengths"][:count] = lengths
        if self._has_statistics:
            moments: Moments = worker_update.statistics
            for name, one in zip(("number", "mean", "squares"), moments, strict=True):
                parts[name][...] = one
        payload = worker_update.payload
        if isinstance(payload, Gradient) is not (self._trajectory is None):
            raise TypeError(f"this mailbox has no room for a {type(payload).__name__}")
        if isinstance(payload, Gradient):
            parts["gradient"][...] = np.asarray(payload.vector)
            parts["norm"][...] = payload.norm
        else:
            _write(parts["trajectory"], payload)
        _write(parts["state"], state)
        self.update_message.seal(sequence)

    def take_update(self, sequence: int, like: Any = ()) -> tuple[WorkerUpdate, Any]:
        """Read an update and the state sent with it (which has the structure of ``like``).

        A gradient is a view; one that is not finite is a copy, because it is kept for longer. A
        trajectory is always a copy.

        Raises:
            TornMessageError: it is incomplete, or not the one that was announced.
        """
        parts = self.update_message.take(sequence)
        count = int(parts["episodes"])
        if not 0 <= count <= self._episodes:
            raise TornMessageError(f"an update of {count} episodes")
        statistics: Any = ()
        if self._has_statistics:
            statistics = Moments(*(np.array(parts[one]) for one in ("number", "mean", "squares")))
        payload: Gradient | Trajectory
        if self._trajectory is None:
            payload = Gradient(parts["gradient"].view(), np.float32(parts["norm"]))
        else:
            payload = _read(parts["trajectory"], self._trajectory)
        worker_update = WorkerUpdate(
            version=int(parts["version"]),
            payload=payload,
            statistics=statistics,
            metrics=parts["metrics"].copy(),
            steps=int(parts["steps"]),
            episodes=EpisodeReport(
                parts["returns"][:count].copy(), parts["lengths"][:count].copy()
            ),
        )
        if not worker_update.is_finite and isinstance(payload, Gradient):
            kept = Gradient(parts["gradient"].copy(), np.float32(parts["norm"]))
            worker_update = worker_update._replace(payload=kept)
        return worker_update, _read(parts["state"], like)

    def put_snapshot(self, snapshot: Snapshot, sequence: int, state: Any = None) -> None:
        """Write a snapshot; if a state is given, the worker continues from it, not from its own."""
        parts = self.snapshot_message.parts
        parts["version"][...] = int(snapshot.version)
        if self._has_statistics:
            parts["mean"][...], parts["scale"][...] = snapshot.statistics
        parts["parameters"][...] = np.asarray(snapshot.parameters)
        if self._has_target:
            parts["target_parameters"][...] = np.asarray(snapshot.target_parameters)
        parts["has_state"][...] = state is not None
        if state is not None:
            _write(parts["state"], state)
        self.snapshot_message.seal(sequence)

    def take_snapshot(self, sequence: int, like: Any = ()) -> tuple[Snapshot, Any]:
        """Read a snapshot, and the state to continue from (None: the worker's own).

        Raises:
            TornMessageError: it is incomplete, or not the one that was announced.
        """
        parts = self.snapshot_message.take(sequence)
        statistics: Any = ()
        if self._has_statistics:
            statistics = (parts["mean"].copy(), parts["scale"].copy())
        # A new view each time: results are cached by the identity of this object, so other
        # parameters must be another object.
        parameters = parts["parameters"].view()
        targets = parts["target_parameters"].view() if self._has_target else ()
        snapshot = Snapshot(np.int32(parts["version"]), parameters, statistics, targets)
        return snapshot, _read(parts["state"], like) if parts["has_state"] else None


def _byte_count(tree: Any) -> int:
    """Return the size of all arrays of a pytree in bytes."""
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in map(_array, jax.tree.leaves(tree))
    )


def _array(leaf: Any) -> Any:
    """Return an array, or its shape and dtype, as it is; a plain number as an array."""
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf)


def _write(row: np.ndarray, tree: Any) -> None:
    begin = 0
    for leaf in jax.tree.leaves(tree):
        content = np.asarray(leaf, order="C").reshape(-1).view(np.uint8)
        row[begin : begin + content.size] = content
        begin += content.size


def _read(row: np.ndarray, like: Any) -> Any:
    """Copy a pytree out of the slot, because it is kept for longer; None if it has no arrays."""
    leaves, structure = jax.tree.flatten(like)
    found, begin = [], 0
    for leaf in map(_array, leaves):
        end = begin + _byte_count(leaf)
        found.append(row[begin:end].copy().view(leaf.dtype).reshape(leaf.shape))
        begin = end
    return jax.tree.unflatten(structure, found) if found else None


def pack_batch(trajectory: Trajectory) -> bytes:
    """Serialise a trajectory as safetensors, by the names of its arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(trajectory)
    return save({jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves})


def unpack_batch(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays that `pack_batch` serialised."""
    arrays: dict[str, np.ndarray] = load(content)
    return arrays
