"""Ctrl-C, noticed only where the bench waits.

A KeyboardInterrupt can occur between the creation of a device or process and its registration for cleanup,
which then never happens. Here a signal is only recorded, in a pipe, and the functions that wait check it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal requested the end of the bench."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        """The signal's number."""


class Interruption:
    """Waits that a signal ends. Within the context signals have no other effect, however many arrive."""

    def __init__(self) -> None:
        self._number = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Interruption:
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stack.callback(os.close, self._woken)
        self._stack.callback(os.close, wake)
        self._stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake, warn_on_full_buffer=False))
        for number in _SIGNALS:
            # A signal that the parent process ignores (nohup) stays ignored.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._stack.callback(signal.signal, number, signal.signal(number, self._record))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        if self._number:
            # A repeated Ctrl-C must not disturb the orderly exit that is under way.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    @property
    def number(self) -> int:
        """The first signal that arrived, 0 when none has."""
        return self._number

    def check(self) -> None:
        """Raise Interrupted when a signal has arrived."""
        if self._number:
            raise Interrupted(self._number)

    def readable(self, fd: int, deadline: float) -> bool:
        """Wait until ``fd`` is readable; return False at ``deadline``, a time of the monotonic clock.

        Raises Interrupted.
        """
        while True:
            self.check()
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([fd, self._woken], [], [], left)
            self.check()
            if fd in ready or not ready:
                return bool(ready)
            os.read(self._woken, 4096)  # signals with other handlers write to the pipe too

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``. Raises Interrupted."""
        select.select([self._woken], [], [], seconds)
        self.check()

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number
