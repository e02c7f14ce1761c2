"""Safe opening of files that someone else may have created: regular files only.

Opening a pipe could wait forever, a device might never end, and writing through a symbolic link
would overwrite another file. The file type is checked after opening, never before: it could be
replaced in between.
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
# The mode that `open` uses for new files; the user's umask is applied to it.
_MODE = 0o666


def open_to_read(path: Path) -> BinaryIO:
    """Open a file for reading. Symbolic links are followed.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    return os.fdopen(_regular(path, os.O_RDONLY), "rb")


def open_to_change(path: Path, *, create: bool = False) -> IO[bytes]:
    """Open a file for reading and writing, without truncating it.

    Args:
        path: path of the file; a symbolic link is refused.
        create: create an empty file if there is none.

    Raises:
        OSError: the file cannot be opened, is a symbolic link, or is not a regular file.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        return os.fdopen(_regular(path, flags), "r+b")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path)) from error
        raise


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
        FileFormatError: the file is larger.
    """
    with open_to_read(path) as file:
        # A sparse file can have any size without using disk space.
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
