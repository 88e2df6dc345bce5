"""Notification of changes in the file system, by inotify(7)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_EVENT: Final = struct.Struct("iIII")
"""struct inotify_event: watch descriptor, mask, cookie, length of the name that follows."""
_READ_BYTES: Final = 1 << 16
_LIMITS: Final = {
    errno.EMFILE: "too many inotify instances or open files: raise fs.inotify.max_user_instances",
    errno.ENOSPC: "too many inotify watches: raise fs.inotify.max_user_watches",
}


@dataclass(frozen=True, slots=True)
class FileEvent:
    """One event of a watched file or directory."""

    watch: int
    """The watch descriptor; -1 after events were dropped."""
    mask: int
    """IN_* values."""
    name: str
    """Name of the entry in a watched directory, as os.fsdecode() returns it; empty for the watched file or
    directory itself."""


class Inotify:
    """An inotify instance."""

    def __init__(self) -> None:
        """Raises KernelError, EMFILE when the user has too many instances."""
        self._fd: int = _LIBC.inotify_init1(abi.IN_NONBLOCK | abi.IN_CLOEXEC)
        if self._fd < 0:
            raise _failed("inotify", ctypes.get_errno())

    def fileno(self) -> int:
        """Return the file descriptor, which is readable after an event; -1 once it is closed."""
        return self._fd

    def close(self) -> None:
        """End every watch. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def add(self, path: str, events: int) -> int:
        """Watch what ``path`` leads to, for ``events``; return the watch descriptor.

        It is the same as before if the same file or directory is watched already. Raises KernelError, ENOSPC
        when the user has too many watches."""
        watch: int = _LIBC.inotify_add_watch(self._fd, os.fsencode(path), events)
        if watch < 0:
            raise _failed(f"watching {path}", ctypes.get_errno())
        return watch

    def remove(self, watch: int) -> None:
        """End a watch; one that has ended already is no error."""
        _LIBC.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[FileEvent]:
        """Return pending events, oldest first, without waiting.

        While more are pending the file descriptor stays readable."""
        try:
            buffer = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        events, start = [], 0
        while start < len(buffer):
            watch, mask, _, length = _EVENT.unpack_from(buffer, start)
            start += _EVENT.size
            name = buffer[start : start + length].rstrip(b"\0")
            events.append(FileEvent(watch, mask, os.fsdecode(name)))
            start += length
        return events


def _failed(subject: str, number: int) -> KernelError:
    limit = _LIMITS.get(number)
    return KernelError(number, f"{subject}: {limit}") if limit else KernelError.about(subject, number)
