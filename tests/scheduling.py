"""The scheduling of a thread, by sched_getattr(2)."""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from typing import Final

import pytest

_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
_NUMBER: Final = {"x86_64": 315, "aarch64": 275, "riscv64": 275}
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

needs_slices = pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (6, 12), reason="slices are of Linux 6.12"
)


def slice_ns(tid: int = 0) -> int:
    """Return the slice of a thread in nanoseconds; 0 is the calling thread."""
    found = ctypes.create_string_buffer(_SCHED_ATTR.size)
    if _LIBC.syscall(_NUMBER[platform.machine()], tid, found, _SCHED_ATTR.size, 0) < 0:
        raise OSError(ctypes.get_errno(), "sched_getattr")
    return int(_SCHED_ATTR.unpack(found.raw)[5])


if __name__ == "__main__":
    print(slice_ns(int(sys.argv[1])))  # noqa: T201
