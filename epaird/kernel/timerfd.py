"""A timer as a descriptor: timerfd_create(2), which Python has from 3.13 on.

The loop's own timers have a resolution of one millisecond; this one has that of the kernel's clock. The data
plane imports this module, so it uses the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SECOND: Final = 1_000_000_000


class TimerSpec(ctypes.Structure):
    """struct itimerspec (linux/time.h): the interval, then the time."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Timer:
    """A timer of CLOCK_MONOTONIC. Its descriptor is readable from the time for which it is armed on, until it
    is cleared or armed again."""

    def __init__(self) -> None:
        """Create the timer, disarmed. Raises KernelError."""
        self.fd: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, abi.TFD_NONBLOCK | abi.TFD_CLOEXEC)
        """The descriptor."""
        if self.fd < 0:
            raise KernelError.about("timerfd_create", ctypes.get_errno())
        self._spec = TimerSpec()
        self._arguments = (
            ctypes.c_int(self.fd),
            ctypes.c_int(abi.TFD_TIMER_ABSTIME),
            ctypes.byref(self._spec),
            None,
        )

    def arm(self, at_ns: int) -> None:
        """Arm the timer for a time in nanoseconds, and for no other one."""
        self._spec.value_s, self._spec.value_ns = divmod(at_ns, _SECOND)
        if _LIBC.timerfd_settime(*self._arguments) < 0:
            raise KernelError.about("timerfd_settime", ctypes.get_errno())

    def clear(self) -> None:
        """Note that its time has come."""
        with contextlib.suppress(BlockingIOError):  # it was armed again meanwhile
            os.read(self.fd, 8)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)
