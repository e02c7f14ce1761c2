"""A slot: one message in anonymous shared memory, with a sequence number and perhaps a checksum.

Anonymous shared memory of a spawned process has no name that could leak. A writer that is killed
in the middle of a write leaves a slot that is not accepted, and holds no lock that could freeze
anybody.
"""

from multiprocessing.context import SpawnContext
from typing import Any

import numpy as np

__all__ = ["SharedMessage", "TornMessageError", "checksum_of"]

_WORD = 8
_ALIGNMENT = 64
"""Bytes. XLA reads an argument that begins at a multiple of this where it is, without a copy."""


class TornMessageError(Exception):
    """A slot does not hold what its signal announced."""


class SharedMessage:
    """Room for one message; picklable to a spawned child, which then sees the same memory.

    Args:
        context: the spawn context.
        fields: name, dtype and shape of each part of a message. The first one is aligned for XLA.
        checked: whether there is a checksum. What a process writes that its readers do not outlive
            needs none: nobody would read what it left half-written.
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
        # Shared memory is mapped in whole pages, so that this holds in the other process too.
        self._offset = -np.frombuffer(self._memory, np.uint8).ctypes.data % _ALIGNMENT
        self._views: tuple[dict[str, np.ndarray], np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Views are made anew where they are needed: pickled, they would be copies."""
        return {**self.__dict__, "_views": None}

    def _open(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The parts of the message, all its words, and the word behind it with the checksum."""
        if self._views is None:
            words = np.frombuffer(self._memory, np.uint64, self._words + 1, self._offset)
            row = np.ndarray((), self._layout, buffer=self._memory, offset=self._offset)
            parts = {name: row[name] for name in self._layout.names or ()}
            self._views = parts, words[: self._words], words[self._words :]
        return self._views

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Views of the parts of the message, to be written before `seal`."""
        return self._open()[0]

    @property
    def content(self) -> memoryview:
        """The bytes of the message and of the checksum behind it, as they lie in memory."""
        begin = self._offset
        return memoryview(self._memory).cast("B")[begin : begin + (self._words + 1) * _WORD]

    def seal(self, sequence: int) -> None:
        """Number the message that has been written, and declare it whole."""
        parts, words, checksum = self._open()
        parts["sequence"][...] = sequence
        if self._checked:
            checksum[0] = checksum_of(words)

    def take(self, sequence: int) -> dict[str, np.ndarray]:
        """Views of a whole message's parts, which hold until the next one is written.

        Raises:
            TornMessageError: it is not whole, or not the one that was announced.
        """
        parts, words, checksum = self._open()
        if int(parts["sequence"]) != sequence:
            raise TornMessageError(f"message {int(parts['sequence'])} instead of {sequence}")
        if self._checked and checksum[0] != checksum_of(words):
            raise TornMessageError(f"message {sequence} is not whole")
        return parts


def checksum_of(words: np.ndarray) -> np.uint64:
    """A sum (modulo 2**64) of the words: fast, and enough to tell a torn write from a whole one."""
    total: np.uint64 = np.add.reduce(words, dtype=np.uint64)
    return total ^ np.uint64(0x9E3779B97F4A7C15)
