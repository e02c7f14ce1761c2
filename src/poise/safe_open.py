"""Opening files that somebody else may have put there: regular ones, and none through a link.

A pipe in a file's place would wait for ever, a device would never end, and a link would have us
write over another file. What a name leads to is looked at after it is open, never before: in
between it could be changed.
"""

import errno
import os
import stat
from pathlib import Path
from typing import IO, BinaryIO

from poise.errors import FileFormatError

__all__ = ["open_to_change", "open_to_read", "read_bytes"]

# Opening a pipe must not wait for its other end.
_CAREFULLY = os.O_NONBLOCK | os.O_CLOEXEC
# As `open` makes files; the user's mask takes away what it does.
_MODE = 0o666


def open_to_read(path: Path) -> BinaryIO:
    """Open a file to read it; a link to one is followed.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    return os.fdopen(_regular(path, os.O_RDONLY), "rb")


def open_to_change(path: Path, *, create: bool = False) -> IO[bytes]:
    """Open a file to read it and write over it, as it is: nothing is cut off.

    Args:
        path: of the file; a link is refused.
        create: make an empty one, if there is none.

    Raises:
        OSError: it cannot be opened, is a link, or is no regular file.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        return os.fdopen(_regular(path, flags), "r+b")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path)) from error
        raise


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a file that must not be larger than this many bytes.

    Raises:
        OSError: it cannot be read, or is no regular file.
        FileFormatError: it is larger.
    """
    with open_to_read(path) as file:
        # A file can claim any size without taking up a byte of disk.
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise FileFormatError(f"{path} is too large: it has more than {limit:,} bytes")
        return file.read(size)


def _regular(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | _CAREFULLY, _MODE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
