"""Notification of changes in directories, by inotify(7)."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_READ_BYTES: Final = 1 << 16


class DirectoryWatch:
    """An inotify watch on one or more directories.

    The events themselves are discarded: the caller reads the directory instead, which is more reliable.
    """

    def __init__(self, *directories: str, events: int, label: str) -> None:
        """Watch ``directories``, which must exist, for ``events``, a mask of IN_* values.

        ``label`` names the watch in error messages. Raises KernelError.
        """
        self._fd: int = _LIBC.inotify_init1(abi.IN_NONBLOCK | abi.IN_CLOEXEC)
        if self._fd < 0:
            raise KernelError.about(f"watching {label}", ctypes.get_errno())
        for directory in directories:
            if _LIBC.inotify_add_watch(self._fd, os.fsencode(directory), events) < 0:
                error = ctypes.get_errno()
                self.close()
                raise KernelError.about(f"watching {directory}", error)

    def fileno(self) -> int:
        """Return the file descriptor, which is readable after an event."""
        return self._fd

    def close(self) -> None:
        """Stop watching. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def drain(self) -> None:
        """Discard all pending events without waiting."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, _READ_BYTES):
                pass
