"""A framed pipe: short messages that the reader receives whole, without blocking on partial ones.

A process may be killed or stopped in the middle of a message. The reader keeps the part that has
arrived, and continues.
"""

import os
import select
import socket
import struct
from multiprocessing import connection

__all__ = ["FramedPipe"]

_LENGTH = struct.Struct("<Q")
_AT_ONCE = 1 << 20
"""Maximum number of bytes read at once."""


class FramedPipe:
    """One end of a pipe between two processes; picklable to a spawned child.

    Args:
        end: a connection from ``multiprocessing.Pipe``; nobody else may use it.
    """

    def __init__(self, end: connection.Connection) -> None:
        self._end = end
        self._received = bytearray()
        self._waiting: list[bytes] = []

    def fileno(self) -> int:
        """Return the file descriptor, for a selector."""
        return self._end.fileno()

    def send(self, message: bytes) -> None:
        """Write a message.

        Raises:
            OSError: there is no reader.
        """
        content = memoryview(_LENGTH.pack(len(message)) + message)
        while content:
            content = content[os.write(self._end.fileno(), content) :]

    def receive(self) -> list[bytes]:
        """Return the complete messages after one read. Blocks only if nothing has arrived.

        Raises:
            EOFError: the other end is closed, and all it sent has been received.
            OSError: the pipe is broken.
        """
        content = os.read(self._end.fileno(), _AT_ONCE)
        if not content:
            raise EOFError
        self._received += content
        messages, begin = [], 0
        while len(self._received) >= begin + _LENGTH.size:
            end = begin + _LENGTH.size + _LENGTH.unpack_from(self._received, begin)[0]
            if len(self._received) < end:
                break
            messages.append(bytes(self._received[begin + _LENGTH.size : end]))
            begin = end
        del self._received[:begin]
        return messages

    def wait(self) -> bytes:
        """Return the next message; blocks until one arrives.

        Raises:
            EOFError: the other end is closed.
        """
        while not self._waiting:
            self._waiting += self.receive()
        return self._waiting.pop(0)

    def waiting(self, kind: bytes) -> list[bytes]:
        """Return the messages of one kind that have arrived; `wait` returns the others later.

        Raises:
            EOFError: the other end is closed.
        """
        while self.has_mail():
            self._waiting += self.receive()
        found = [one for one in self._waiting if one.startswith(kind)]
        self._waiting = [one for one in self._waiting if not one.startswith(kind)]
        return found

    def has_mail(self) -> bool:
        """Whether `receive` would return at once: data has arrived, or the pipe has ended."""
        return bool(select.select([self._end], [], [], 0)[0])

    def has_ended(self) -> bool:
        """Whether the other end is closed, and everything it sent has been received."""
        with socket.socket(fileno=os.dup(self._end.fileno())) as end:
            try:
                return not end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True

    def close(self) -> None:
        """Close this end."""
        self._end.close()
