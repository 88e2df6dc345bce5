"""The first steps of the daemon's process, before it imports anything that takes long."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that the daemon handles, or that would end it."""
ENDING: Final = (signal.SIGINT, signal.SIGTERM)
"""Those of them that request its end."""
_STANDARD: Final = (0, 1, 2)
_START_S: Final = 10.0
"""Time in seconds for which SIGINT or SIGTERM may be pending, without the time of waiting for a processor."""
_LOADED_S: Final = 30.0
"""Most time in seconds of waiting for a processor that is added to it."""
_CHECK_S: Final = 0.25
_delivered = threading.Event()


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

    Until then each of them would end the process. SIGINT and SIGTERM may do so: nothing has begun yet. In a
    program that a daemon has executed to upgrade itself they are blocked as well, because it has everything
    to take down; if it does not get so far in time, it ends without. On a loaded machine it has more time:
    what it leaves behind would exist until ``orphan_timeout``."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(SIGNALS) - set(ENDING))
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(ENDING):
        threading.Thread(target=_bound_start, name="starting", daemon=True).start()


def block_signals() -> None:
    """Block the signals in the calling thread, which is not the main one.

    They then wait for the main thread while it blocks them, so that none is lost when the process executes
    another program."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def deliver_signals(*, ending: bool = True) -> None:
    """Deliver the signals that were blocked, without ``ending`` those only that do not request the end.

    Their handlers must be installed."""
    _delivered.set()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, set(SIGNALS) - (set() if ending else set(ENDING)))


def _bound_start() -> None:
    """End the process when a signal that requests it is not delivered in time."""
    due: float | None = None
    waited_before = 0.0
    while not _delivered.wait(_CHECK_S):
        if signal.sigpending().isdisjoint(ENDING):
            continue
        waited = _waited_for_processor()
        if due is None:
            due, waited_before = time.monotonic() + _START_S, waited
        if time.monotonic() > due + min(waited - waited_before, _LOADED_S):
            os.write(2, b"not ended in time: still starting: ending without waiting for it\n")
            os._exit(1)


def _waited_for_processor() -> float:
    """Return for how many seconds the main thread has been ready to run and had no processor."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes long to import
            return int(file.read().split()[1]) / 1e9
    except OSError:  # a kernel without scheduler statistics
        return 0.0
