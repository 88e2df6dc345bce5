"""Told when something happens in a directory, by inotify(7)."""

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
    """Watches one directory, or several.  What is there tells more than the events, which are forgotten."""

    def __init__(self, *directories: str, events: int, label: str) -> None:
        """``directories`` must exist; ``events`` are IN_* of inotify(7), ``label`` what messages call it.

        Raises KernelError."""
        self._fd: int = _LIBC.inotify_init1(abi.IN_NONBLOCK | abi.IN_CLOEXEC)
        if self._fd < 0:
            raise KernelError.about(f"watching {label}", ctypes.get_errno())
        for directory in directories:
            if _LIBC.inotify_add_watch(self._fd, os.fsencode(directory), events) < 0:
                error = ctypes.get_errno()
                self.close()
                raise KernelError.about(f"watching {directory}", error)

    def fileno(self) -> int:
        """The file descriptor, readable when something has happened."""
        return self._fd

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def drain(self) -> None:
        """Forget what there is to read; never waits."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, _READ_BYTES):
                pass
