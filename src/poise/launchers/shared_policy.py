"""The policy being evaluated, in shared memory, for all workers to read."""

from multiprocessing.context import SpawnContext
from typing import Any

import numpy as np

from poise.launchers.mailbox import MailboxShape
from poise.launchers.shared_message import SharedMessage
from poise.trajectory import Snapshot

__all__ = ["SharedPolicy"]


class SharedPolicy:
    """One snapshot; picklable to a spawned child. Written only while no worker is playing.

    Args:
        context: the spawn context.
        shape: shape of the workers' mailboxes.
    """

    def __init__(self, context: SpawnContext, shape: MailboxShape) -> None:
        self._has_statistics = shape.observed > 0
        count = (shape.observed,)
        self._shared_message = SharedMessage(
            context,
            [
                ("parameters", "f4", (shape.parameters,)),
                ("mean", "f8", count),
                ("scale", "f4", count),
            ],
            # It is written by the parent, which no child outlives.
            checked=False,
        )
        self._sequence = 0

    def post(self, snapshot: Snapshot) -> int:
        """Write a snapshot; return the number to announce it by."""
        parts = self._shared_message.parts
        if self._has_statistics:
            parts["mean"][...], parts["scale"][...] = snapshot.statistics
        parts["parameters"][...] = np.asarray(snapshot.parameters)
        self._sequence += 1
        self._shared_message.seal(self._sequence)
        return self._sequence

    def take(self, sequence: int) -> Snapshot:
        """Read the snapshot that was announced; its parameters are a view.

        Raises:
            TornMessageError: the slot holds another snapshot.
        """
        parts = self._shared_message.take(sequence)
        statistics: Any = ()
        if self._has_statistics:
            statistics = (parts["mean"].copy(), parts["scale"].copy())
        # A new view each time, as in `Mailbox.take_snapshot`.
        return Snapshot(np.int32(0), parts["parameters"].view(), statistics)
