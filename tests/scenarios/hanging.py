"""Processes that hang, in both forms: suspended, or computing in an endless loop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_WALL: Final = 0x40000000

_ENDLESS_LOOP: Final = {"x86_64": b"\xeb\xfe", "aarch64": b"\x00\x00\x00\x14"}
"""A jump to itself."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


@contextlib.contextmanager
def hang(pid: int) -> Iterator[None]:
    """Suspend a process by ptrace(2) until the block ends or the process is killed.

    Unlike a stop, its parent does not notice this.
    """
    _ptrace(_PTRACE_SEIZE, pid)
    _ptrace(_PTRACE_INTERRUPT, pid)
    os.waitpid(pid, _WALL)
    try:
        yield
    finally:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, _WALL)


@contextlib.contextmanager
def hang_computing(pid: int) -> Iterator[None]:
    """Make a process compute for ever once its present system call returns."""
    # proc(5): /proc/PID/syscall ends with the program counter of a process that is in a system call.
    state = Path(f"/proc/{pid}/syscall")
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        while (fields := state.read_text().split())[0] == "running":
            time.sleep(0)
        os.pwrite(memory.fileno(), _ENDLESS_LOOP[platform.machine()], int(fields[-1], 16))
    yield


def _ptrace(request: int, pid: int) -> None:
    if _LIBC.ptrace(request, pid, None, None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
