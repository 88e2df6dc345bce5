"""Scheduling slices: short for the threads that forward frames, long for those that compute beside them.

Linux allots the processor in slices and lets a running task use up its slice even when another task has been
woken on its core. That task waits for up to a tick, 4 ms, with the frame for which it was woken, unless it
has requested a shorter slice: then it runs at once. So the threads that are not in a hurry request long
slices. Their share of the processor does not change.

Threads and processes inherit their slice, the threads of libraries included, as intended. A kernel before
6.12 has no such slices.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
from typing import Final

log = logging.getLogger(__name__)

LONG_NS: Final = 30_000_000
"""A long slice in nanoseconds. The kernel's default is 0.7 to 2.8 ms, its maximum 100 ms."""
_DEFAULT: Final = 0
"""The value that restores the kernel's default slice."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: size, policy, flags, nice, priority; slice, deadline and period in nanoseconds."""
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""Number of the system call for 64-bit processes. glibc has a wrapper from 2.41 on."""


def use_long_slices() -> None:
    """Request long slices for the calling thread and for the threads and processes it starts from now on."""
    _set_slice(LONG_NS)


def use_default_slices() -> None:
    """Restore the kernel's default slices for the calling thread, which may have inherited others."""
    _set_slice(_DEFAULT)


def _set_slice(slice_ns: int) -> None:
    """Set the calling thread's slice, if the machine supports it.

    A policy other than SCHED_OTHER is left alone: an administrator chose it.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None or struct.calcsize("P") != 8 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    if _LIBC.syscall(number, 0, attributes, 0) < 0:
        log.debug("scheduling slice not changed: %s", os.strerror(ctypes.get_errno()))
