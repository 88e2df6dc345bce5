"""The first steps of the daemon's process, before it imports anything that takes long."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that the daemon handles, or that would end it."""
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_STANDARD: Final = (0, 1, 2)


def open_standard_descriptors() -> None:
    """Open /dev/null as each of the descriptors 0, 1 and 2 that is closed.

    Otherwise the next file or socket gets its number: what is printed would be written there, and libuv
    aborts when it closes such a descriptor."""
    for fd in _STANDARD:
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            os.set_inheritable(opened, True)
    # Python sets the stream of a closed descriptor to None.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def defer_signals() -> None:
    """Block the signals that request something from a running daemon, until their handlers are installed.

    Until then each of them would end the process. SIGINT and SIGTERM may do so: nothing has begun yet."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(SIGNALS) - set(_ENDING))


def deliver_signals() -> None:
    """Deliver the signals that were blocked. Their handlers must be installed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
