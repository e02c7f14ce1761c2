"""A slot: one message in anonymous shared memory, with a sequence number and optionally a checksum.

Anonymous shared memory of a spawned process has no name that could leak. If a writer is killed in
the middle of a write, the reader rejects the slot, and no lock stays locked.
"""

from multiprocessing.context import SpawnContext
from typing import Any

import numpy as np

__all__ = ["SharedMessage", "TornMessageError", "checksum_of"]

_WORD = 8
_ALIGNMENT = 64
"""Bytes. XLA uses an argument aligned to a multiple of this without copying it."""


class TornMessageError(Exception):
    """A slot does not hold the message that its signal announced."""


class SharedMessage:
    """Room for one message; picklable to a spawned child, which then sees the same memory.

    Args:
        context: the spawn context.
        fields: name, dtype and shape of each part of a message. The first one is aligned for XLA.
        checked: whether there is a checksum. It is not needed if readers cannot outlive the
            writer, because then nobody would read a half-written message.
    """

    def __init__(
        self,
        context: SpawnContext,
        fields: list[tuple[str, str, tuple[int, ...]]],
        *,
        checked: bool,
    ) -> None:
        self._checked = checked
        self._layout = np.dtype([*fields, ("sequence", "u8")])
        self._words = -(-self._layout.itemsize // _WORD)
        size = (self._words + 1) * _WORD
        self._memory: Any = context.RawArray("B", size + _ALIGNMENT)
        # Shared memory is mapped in whole pages, so this offset is right in the other process, too.
        self._offset = -np.frombuffer(self._memory, np.uint8).ctypes.data % _ALIGNMENT
        self._views: tuple[dict[str, np.ndarray], np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Drop the views, which are made again when needed: pickled, they would be copies."""
        return {**self.__dict__, "_views": None}

    def _open(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return the parts of the message, all its words, and the word that holds the checksum."""
        if self._views is None:
            words = np.frombuffer(self._memory, np.uint64, self._words + 1, self._offset)
            row = np.ndarray((), self._layout, buffer=self._memory, offset=self._offset)
            parts = {name: row[name] for name in self._layout.names or ()}
            self._views = parts, words[: self._words], words[self._words :]
        return self._views

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Views of the parts of the message; write them before calling `seal`."""
        return self._open()[0]

    @property
    def content(self) -> memoryview:
        """The bytes of the message and its checksum, as they are in memory."""
        begin = self._offset
        return memoryview(self._memory).cast("B")[begin : begin + (self._words + 1) * _WORD]

    def seal(self, sequence: int) -> None:
        """Number the message that has been written, and mark it as complete."""
        parts, words, checksum = self._open()
        parts["sequence"][...] = sequence
        if self._checked:
            checksum[0] = checksum_of(words)

    def take(self, sequence: int) -> dict[str, np.ndarray]:
        """Return views of the parts of a complete message, valid until the next one is written.

        Raises:
            TornMessageError: it is incomplete, or not the one that was announced.
        """
        parts, words, checksum = self._open()
        if int(parts["sequence"]) != sequence:
            raise TornMessageError(f"message {int(parts['sequence'])} instead of {sequence}")
        if self._checked and checksum[0] != checksum_of(words):
            raise TornMessageError(f"message {sequence} is incomplete")
        return parts


def checksum_of(words: np.ndarray) -> np.uint64:
    """Checksum of the words (sum modulo 2**64): fast, and enough to detect a torn write."""
    total: np.uint64 = np.add.reduce(words, dtype=np.uint64)
    return total ^ np.uint64(0x9E3779B97F4A7C15)
