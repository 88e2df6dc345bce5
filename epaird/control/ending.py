"""The end of the process within a bound, whatever it waits for.

SIGTERM and SIGINT request an orderly end, for which the event loop is needed. They are delivered to a thread
of their own, which passes them on to the loop: the main thread may be blocked in a system call that no signal
interrupts, as one that looks up a path of a dead server. If the process still exists after the bound, or when
another signal requests the end, the thread logs what was waited for, gives everything up, and exits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
import time
from typing import Final, NoReturn, Protocol

from epaird.control import logs
from epaird.startup import ENDING, block_signals

log = logging.getLogger(__name__)

OVERDUE: Final = 1
"""Exit status of a process that did not end in time."""
BOUND_S: Final = 10.0
"""Least time in seconds for an orderly end."""
REPEATED_S: Final = 0.5
"""Time in seconds in which a second signal counts as the first: timeout(1) and terminals send two."""
_GIVING_UP_S: Final = 1.0
_MARK: Final = b"\0"
_AT_ONCE: Final = 4096


class Endable(Protocol):
    """A daemon that is ending."""

    @property
    def ending_s(self) -> float:
        """Time in seconds that its orderly end may take."""

    @property
    def waits_for(self) -> str:
        """What it does at the moment, in words that continue ``still``."""

    def give_up(self) -> None:
        """Give everything up without waiting; called in another thread."""


class Ending:
    """Observes the signals of one process."""

    def __init__(self) -> None:
        self.daemon: Endable | None = None
        """The daemon, once there is one."""
        self._requested: signal.Signals | None = None
        self._due = 0.0
        self._repeated_from = 0.0
        self._settled = threading.Event()
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._loop_fd = -1

    def observe(self) -> None:
        """Observe signals from now on; the handlers of the running loop must be installed.

        Each is passed on to the loop. SIGTERM and SIGINT are blocked in the main thread."""
        received, written = self._sockets = socket.socketpair()
        written.setblocking(False)
        loop_fd = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        # A copy: the loop closes its own.
        self._loop_fd = os.dup(loop_fd) if loop_fd >= 0 else -1
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        threading.Thread(target=self._run, args=(received,), name="ending", daemon=True).start()

    def requested(self) -> bool:
        """Return whether the end was requested, and observe no further signals.

        They must be blocked in the main thread, and wait for the program that the process executes."""
        if self._sockets is not None:
            self._settled.clear()
            self._sockets[1].send(_MARK)
            self._settled.wait(_GIVING_UP_S)
        return self._requested is not None

    def _run(self, received: socket.socket) -> None:
        # The handler in C runs in the thread to which a signal is delivered. It writes to the socket.
        block_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        while True:
            timeout = None if self._requested is None else max(0.0, self._due - time.monotonic())
            readable, _, _ = select.select((received,), (), (), timeout)
            if not readable:
                self._exit()
            numbers = received.recv(_AT_ONCE)
            if _MARK in numbers:
                block_signals()
                with contextlib.suppress(BlockingIOError):  # those that arrived before that
                    numbers += received.recv(_AT_ONCE, socket.MSG_DONTWAIT)
            for number in numbers:
                self._note(number)
            if _MARK in numbers:
                self._settled.set()
                return  # from now on the number of its socket may become another descriptor's

    def _note(self, number: int) -> None:
        if number in ENDING:
            self._request(signal.Signals(number))
        if self._loop_fd >= 0 and number:
            with contextlib.suppress(OSError):
                os.write(self._loop_fd, bytes((number,)))

    def _request(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if self._requested is None:
            self._requested = number
            self._repeated_from = now + REPEATED_S
            self._due = now + (self.daemon.ending_s if self.daemon is not None else BOUND_S)
        elif now >= self._repeated_from:
            self._exit(number)

    def _exit(self, again: signal.Signals | None = None) -> NoReturn:
        """Exit without waiting: the time is over, or the end was requested ``again``."""
        try:
            doing = self.daemon.waits_for if self.daemon is not None else "starting"
            why = f"{again.name} again" if again is not None else "not ended in time"
            log.error("%s: still %s: ending without waiting for it", why, doing)
            logs.flush()
            if self.daemon is not None:
                giving_up = threading.Thread(target=self.daemon.give_up, daemon=True)
                giving_up.start()
                giving_up.join(_GIVING_UP_S)
        finally:
            os._exit(OVERDUE)
