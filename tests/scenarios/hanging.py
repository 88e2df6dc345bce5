"""A process that hangs: it is held by ptrace(2), which its parent does not see as it sees a stop."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Final

_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_WALL: Final = 0x40000000

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


@contextlib.contextmanager
def hung(pid: int) -> Iterator[None]:
    """Have a process do nothing until the block ends or somebody kills it."""
    _ptrace(_PTRACE_SEIZE, pid)
    _ptrace(_PTRACE_INTERRUPT, pid)
    os.waitpid(pid, _WALL)
    try:
        yield
    finally:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, _WALL)


def _ptrace(request: int, pid: int) -> None:
    if _LIBC.ptrace(request, pid, None, None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
