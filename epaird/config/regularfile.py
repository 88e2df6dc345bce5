"""Reading a file whose path comes from outside."""

from __future__ import annotations

import errno
import os
import stat


def beginning(path: str | os.PathLike[str], octets: int) -> bytes:
    """Return the first bytes of a file, at most so many.

    It opens nothing but a regular file: a FIFO would wait for a writer, and opening a device may have an
    effect. Raises OSError, and ValueError for a path with a NUL."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        mode = os.fstat(place).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is not a regular file")
        # Opened through the descriptor, so that it is the file that was examined.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(f"/proc/self/fd/{place}", flags), "rb") as file:
            return file.read(octets)
    finally:
        os.close(place)
