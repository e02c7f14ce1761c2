"""Mailboxes: one slot for a worker's contribution and one for its snapshot, in shared memory.

Anonymous shared memory of a spawned process (no name that could leak), NumPy views of it, a
sequence number and a checksum: a writer that is killed in the middle of a write leaves a slot that
is not accepted, and holds no lock that could freeze anybody.
"""

from multiprocessing.context import SpawnContext
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import load, save

from poise.maths.statistics import Moments
from poise.trajectory import Contribution, EpisodeReport, Snapshot, Trajectory

__all__ = ["Mailbox", "MailboxShape", "TornMessageError", "pack_batch", "unpack_batch"]

_WORD = 8


class TornMessageError(Exception):
    """A slot does not hold what its signal announced."""


class MailboxShape(NamedTuple):
    """How large the slots are.

    Attributes:
        parameters: P, length of the parameter vector.
        episodes: how many episodes one rollout can finish at most.
        statistics: S, length of the normaliser's statistics; None without a normaliser.
    """

    parameters: int
    episodes: int
    statistics: int | None

    @property
    def contribution(self) -> np.dtype[Any]:
        """Layout of the contribution slot."""
        count = self.statistics or 0
        return np.dtype(
            [
                ("sequence", "u8"),
                ("version", "i8"),
                ("steps", "i8"),
                ("episodes", "i8"),
                ("losses", "f4", (5,)),
                ("returns", "f4", (self.episodes,)),
                ("lengths", "i4", (self.episodes,)),
                ("number", "f4"),
                ("mean", "f4", (count,)),
                ("squares", "f4", (count,)),
                ("gradient", "f4", (self.parameters,)),
            ]
        )

    @property
    def snapshot(self) -> np.dtype[Any]:
        """Layout of the snapshot slot."""
        count = self.statistics or 0
        return np.dtype(
            [
                ("sequence", "u8"),
                ("version", "i8"),
                ("mean", "f4", (count,)),
                ("scale", "f4", (count,)),
                ("parameters", "f4", (self.parameters,)),
            ]
        )


class Mailbox:
    """The two slots of one worker; picklable to a spawned child.

    Args:
        context: the spawn context.
        shape: how large the slots are.
    """

    def __init__(self, context: SpawnContext, shape: MailboxShape) -> None:
        self.shape = shape
        # Fresh anonymous memory for each: nothing to unlink, nothing to leak.
        self._contribution = context.RawArray("B", _slot_bytes(shape.contribution))
        self._snapshot = context.RawArray("B", _slot_bytes(shape.snapshot))

    def put_contribution(self, contribution: Contribution, sequence: int) -> None:
        """Write a contribution."""
        row, words, checksum = _views(self._contribution, self.shape.contribution)
        row["version"] = contribution.version
        row["steps"] = contribution.steps
        episodes = contribution.episodes
        count = len(episodes.returns)
        row["episodes"] = count
        row["losses"] = contribution.losses
        row["returns"][:count] = episodes.returns
        row["lengths"][:count] = episodes.lengths
        if self.shape.statistics is not None:
            moments: Moments = contribution.statistics
            row["number"], row["mean"], row["squares"] = moments
        row["gradient"] = np.asarray(contribution.gradient)
        row["sequence"] = sequence
        checksum[0] = _checksum(words)

    def take_contribution(self, sequence: int) -> Contribution:
        """Copy a contribution out.

        Raises:
            TornMessageError: it is not whole, or not the one that was announced.
        """
        row, words, checksum = _views(self._contribution, self.shape.contribution)
        _check(row, words, checksum, sequence)
        count = int(row["episodes"])
        if not 0 <= count <= self.shape.episodes:
            raise TornMessageError(f"a contribution of {count} episodes")
        statistics: Any = ()
        if self.shape.statistics is not None:
            statistics = Moments(
                np.array(row["number"]), np.array(row["mean"]), np.array(row["squares"])
            )
        return Contribution(
            version=int(row["version"]),
            gradient=np.array(row["gradient"]),
            trajectory=None,
            statistics=statistics,
            losses=np.array(row["losses"]),
            steps=int(row["steps"]),
            episodes=EpisodeReport(
                np.array(row["returns"][:count]), np.array(row["lengths"][:count])
            ),
        )

    def put_snapshot(self, snapshot: Snapshot, sequence: int) -> None:
        """Write a snapshot."""
        row, words, checksum = _views(self._snapshot, self.shape.snapshot)
        row["version"] = int(snapshot.version)
        if self.shape.statistics is not None:
            row["mean"], row["scale"] = snapshot.statistics
        row["parameters"] = np.asarray(snapshot.parameters)
        row["sequence"] = sequence
        checksum[0] = _checksum(words)

    def take_snapshot(self, sequence: int) -> Snapshot:
        """Copy a snapshot out.

        Raises:
            TornMessageError: it is not whole, or not the one that was announced.
        """
        row, words, checksum = _views(self._snapshot, self.shape.snapshot)
        _check(row, words, checksum, sequence)
        statistics: Any = ()
        if self.shape.statistics is not None:
            statistics = (np.array(row["mean"]), np.array(row["scale"]))
        return Snapshot(np.int32(row["version"]), np.array(row["parameters"]), statistics)


def pack_batch(trajectory: Trajectory) -> bytes:
    """A trajectory as safetensors, by the names of its arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(trajectory)
    return save({jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves})


def unpack_batch(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of `pack_batch`."""
    arrays: dict[str, np.ndarray] = load(content)
    return arrays


def _slot_bytes(layout: np.dtype[Any]) -> int:
    words = -(-layout.itemsize // _WORD)
    return (words + 1) * _WORD


def _views(memory: Any, layout: np.dtype[Any]) -> tuple[Any, np.ndarray, np.ndarray]:
    """The row itself, all its words, and the word behind it that holds the checksum."""
    words = np.frombuffer(memory, np.uint64)
    row = np.ndarray((), layout, buffer=memory)
    return row, words[:-1], words[-1:]


def _checksum(words: np.ndarray) -> np.uint64:
    """A sum (modulo 2**64) of the words: fast, and enough to tell a torn write from a whole one."""
    total: np.uint64 = np.add.reduce(words, dtype=np.uint64)
    return total ^ np.uint64(0x9E3779B97F4A7C15)


def _check(row: Any, words: np.ndarray, checksum: np.ndarray, sequence: int) -> None:
    if int(row["sequence"]) != sequence:
        raise TornMessageError(f"message {int(row['sequence'])} instead of {sequence}")
    if checksum[0] != _checksum(words):
        raise TornMessageError(f"message {sequence} is not whole")
