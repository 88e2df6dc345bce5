"""A file system that does not answer, as one of a server that is gone: a look at a path in it blocks."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH: Final = 2


@contextlib.contextmanager
def dead_file_system(directory: Path) -> Iterator[None]:
    """Mount one over a directory for the block; at its end everybody who waits gets an error."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        _check(_LIBC.mount(b"dead", os.fsencode(directory), b"fuse", 0, options))
        try:
            yield
        finally:
            _check(_LIBC.umount2(os.fsencode(directory), _MNT_DETACH))
    finally:
        os.close(fd)


def waits_in_it(pid: int) -> bool:
    """Return whether a thread of a process waits for such a file system."""
    return any(
        each.read_text() == "request_wait_answer" or each.read_text().startswith("fuse_")
        for each in Path(f"/proc/{pid}/task").glob("*/wchan")
    )


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
