"""Mailboxes: one slot for a worker's update and one for its snapshot, in shared memory.

Arrays are handed out as views: what was taken holds until the other side writes again, which it
does only when it has been answered. So the parameters of a snapshot are read by XLA where they are,
and so is a gradient; nothing large is copied twice.
"""

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
    """What fits into a mailbox.

    Attributes:
        parameters: P, length of the parameter vector.
        metrics: K, numbers that are logged of each update.
        episodes: how many episodes one rollout can finish at most.
        statistics: S, length of the normaliser's statistics; None without a normaliser.
        state: a worker's state (a pytree of arrays); ``()`` if it is not available.
    """

    parameters: int
    metrics: int
    episodes: int
    statistics: int | None
    state: Any = ()

    @property
    def state_bytes(self) -> int:
        """Length of a state's bytes."""
        return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self.state))


class Mailbox:
    """The two slots of one worker; picklable to a spawned child.

    Args:
        context: the spawn context.
        shape: what fits into them.
    """

    def __init__(self, context: SpawnContext, shape: MailboxShape) -> None:
        self._episodes = shape.episodes
        self._has_statistics = shape.statistics is not None
        count, state = (shape.statistics or 0,), (shape.state_bytes,)
        self.update_message = SharedMessage(
            context,
            [
                ("gradient", "f4", (shape.parameters,)),
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
            ],
            checked=True,
        )
        self.snapshot_message = SharedMessage(
            context,
            [
                ("parameters", "f4", (shape.parameters,)),
                ("version", "i8", ()),
                ("mean", "f8", count),
                ("scale", "f4", count),
                ("has_state", "u1", ()),
                ("state", "u1", state),
            ],
            # It comes from the parent, which a child does not outlive.
            checked=False,
        )

    def put_initial_state(self, state: Any) -> None:
        """Write a worker's state before its first cycle; message 0."""
        _write_state(self.update_message.parts["state"], state)
        self.update_message.seal(0)

    def take_initial_state(self, like: Any) -> Any:
        """Copy out the state before the first cycle; None where there is none.

        Raises:
            TornMessageError: it is not whole.
        """
        return _read_state(self.update_message.take(0)["state"], like)

    def put_update(self, worker_update: WorkerUpdate, sequence: int, state: Any = ()) -> None:
        """Write an update, and the worker's state after it where that is available."""
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
        if not isinstance(worker_update.payload, Gradient):
            raise TypeError("a mailbox has room for a gradient, not for a trajectory")
        parts["gradient"][...] = np.asarray(worker_update.payload.vector)
        parts["norm"][...] = worker_update.payload.norm
        _write_state(parts["state"], state)
        self.update_message.seal(sequence)

    def take_update(self, sequence: int, like: Any = ()) -> tuple[WorkerUpdate, Any]:
        """Read an update and the state left with it (shaped like ``like``).

        The gradient is a view, unless the update is not finite: then it is kept for longer.

        Raises:
            TornMessageError: it is not whole, or not the one that was announced.
        """
        parts = self.update_message.take(sequence)
        count = int(parts["episodes"])
        if not 0 <= count <= self._episodes:
            raise TornMessageError(f"an update of {count} episodes")
        statistics: Any = ()
        if self._has_statistics:
            statistics = Moments(*(np.array(parts[one]) for one in ("number", "mean", "squares")))
        worker_update = WorkerUpdate(
            version=int(parts["version"]),
            payload=Gradient(parts["gradient"].view(), np.float32(parts["norm"])),
            statistics=statistics,
            metrics=parts["metrics"].copy(),
            steps=int(parts["steps"]),
            episodes=EpisodeReport(
                parts["returns"][:count].copy(), parts["lengths"][:count].copy()
            ),
        )
        if not worker_update.is_finite:
            kept = Gradient(parts["gradient"].copy(), np.float32(parts["norm"]))
            worker_update = worker_update._replace(payload=kept)
        return worker_update, _read_state(parts["state"], like)

    def put_snapshot(self, snapshot: Snapshot, sequence: int, state: Any = None) -> None:
        """Write a snapshot; with a state, the worker goes on from that instead of its own."""
        parts = self.snapshot_message.parts
        parts["version"][...] = int(snapshot.version)
        if self._has_statistics:
            parts["mean"][...], parts["scale"][...] = snapshot.statistics
        parts["parameters"][...] = np.asarray(snapshot.parameters)
        parts["has_state"][...] = state is not None
        if state is not None:
            _write_state(parts["state"], state)
        self.snapshot_message.seal(sequence)

    def take_snapshot(self, sequence: int, like: Any = ()) -> tuple[Snapshot, Any]:
        """Read a snapshot, and the state to go on from, None for the worker's own.

        Raises:
            TornMessageError: it is not whole, or not the one that was announced.
        """
        parts = self.snapshot_message.take(sequence)
        statistics: Any = ()
        if self._has_statistics:
            statistics = (parts["mean"].copy(), parts["scale"].copy())
        # A new view each time: other parameters must be another object, or what was made of the
        # old ones would be taken for theirs.
        parameters = parts["parameters"].view()
        snapshot = Snapshot(np.int32(parts["version"]), parameters, statistics)
        return snapshot, _read_state(parts["state"], like) if parts["has_state"] else None


def _write_state(row: np.ndarray, state: Any) -> None:
    begin = 0
    for leaf in jax.tree.leaves(state):
        content = np.asarray(leaf, order="C").reshape(-1).view(np.uint8)
        row[begin : begin + content.size] = content
        begin += content.size


def _read_state(row: np.ndarray, like: Any) -> Any:
    """A copy of a state, which is kept for longer than the slot; None where there is none."""
    leaves, structure = jax.tree.flatten(like)
    found, begin = [], 0
    for leaf in leaves:
        leaf = np.asarray(leaf)
        content = row[begin : begin + leaf.nbytes].copy()
        found.append(content.view(leaf.dtype).reshape(leaf.shape))
        begin += leaf.nbytes
    return jax.tree.unflatten(structure, found) if found else None


def pack_batch(trajectory: Trajectory) -> bytes:
    """A trajectory as safetensors, by the names of its arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(trajectory)
    return save({jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves})


def unpack_batch(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of `pack_batch`."""
    arrays: dict[str, np.ndarray] = load(content)
    return arrays
