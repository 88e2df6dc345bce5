"""Who is in a hurry: those that carry packets; not what computes much beside them.

Linux hands the processor out in slices, and lets a task that runs use its slice up, though another has just
been woken on its core; that one waits for up to a tick, 4 ms, with whatever packet it was woken for.  Unless
it has asked for a shorter slice: then it runs at once.  So who is in no hurry asks for a long one.  Its share
of the processor stays what it was.

Slices are inherited, by the threads of libraries, too, as they should be.  A kernel before 6.12 has none.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
from typing import Final

log = logging.getLogger(__name__)

LONG_NS: Final = 30_000_000
"""Others have 0.7 to 2.8 ms by default; the kernel permits 100."""
_USUAL: Final = 0
"""Whatever the kernel has by default."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: size, policy, flags, nice, priority; slice, deadline and period in nanoseconds."""
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""The system call's number, which glibc knows from 2.41 on; as it is for processes of 64 bits."""


def stand_back() -> None:
    """Have the calling thread's slices be long, and those of what it starts from now on."""
    _ask_for(LONG_NS)


def step_forward() -> None:
    """Have the calling thread's slices be as usual, whoever started it."""
    _ask_for(_USUAL)


def _ask_for(slice_ns: int) -> None:
    """Where it cannot be had nothing changes; another policy than SCHED_OTHER is somebody's decision."""
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None or struct.calcsize("P") != 8 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    if _LIBC.syscall(number, 0, attributes, 0) < 0:
        log.debug("the slices stay as they are: %s", os.strerror(ctypes.get_errno()))
