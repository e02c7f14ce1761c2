"""The policy that is being evaluated, in shared memory, for all workers to read."""

from multiprocessing.context import SpawnContext
from typing import Any

import numpy as np

from poise.launchers.mailbox import MailboxShape
from poise.launchers.shared_message import SharedMessage
from poise.trajectory import Snapshot

__all__ = ["SharedPolicy"]


class SharedPolicy:
    """One snapshot; picklable to a spawned child. Written only while nobody plays.

    Args:
        context: the spawn context.
        shape: of the workers' mailboxes.
    """

    def __init__(self, context: SpawnContext, shape: MailboxShape) -> None:
        self._has_statistics = shape.statistics is not None
        count = (shape.statistics or 0,)
        self._shared_message = SharedMessage(
            context,
            [
                ("parameters", "f4", (shape.parameters,)),
                ("mean", "f8", count),
                ("scale", "f4", count),
            ],
            # It comes from the parent, which a child does not outlive.
            checked=False,
        )
        self._sequence = 0

    def post(self, snapshot: Snapshot) -> int:
        """Write a snapshot; returns the number that it is announced by."""
        parts = self._shared_message.parts
        if self._has_statistics:
            parts["mean"][...], parts["scale"][...] = snapshot.statistics
        parts["parameters"][...] = np.asarray(snapshot.parameters)
        self._sequence += 1
        self._shared_message.seal(self._sequence)
        return self._sequence

    def take(self, sequence: int) -> Snapshot:
        """Read what was announced; the parameters are a view.

        Raises:
            TornMessageError: it is not there.
        """
        parts = self._shared_message.take(sequence)
        statistics: Any = ()
        if self._has_statistics:
            statistics = (parts["mean"].copy(), parts["scale"].copy())
        # A new view each time, as in a mailbox.
        return Snapshot(np.int32(0), parts["parameters"].view(), statistics)
