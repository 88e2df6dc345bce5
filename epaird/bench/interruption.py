"""Ctrl-C, noticed only where the bench waits.

A KeyboardInterrupt can come between the making of a thing and the noting that it was made, and then
nobody takes the thing down.  Here a signal is only noted, in a pipe, and the places that wait look there.
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
    """A signal asks us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruption:
    """Waits that a signal ends.  Within the context signals do nothing else, however often they come."""

    def __init__(self) -> None:
        self._number = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Interruption:
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stack.callback(os.close, self._woken)
        self._stack.callback(os.close, wake)
        self._stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake, warn_on_full_buffer=False))
        for number in _SIGNALS:
            # What our starter has ignored (nohup) stays ignored.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._stack.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        if self._number:
            # Impatient fingers must not turn our orderly end, which is near, into another.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    @property
    def number(self) -> int:
        """The signal that has come, 0 when none has."""
        return self._number

    def check(self) -> None:
        """Raise Interrupted when a signal has come."""
        if self._number:
            raise Interrupted(self._number)

    def readable(self, fd: int, deadline: float) -> bool:
        """Wait until there is something to read, or the monotonic clock's ``deadline``: False then.

        Raises Interrupted."""
        while True:
            self.check()
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([fd, self._woken], [], [], left)
            self.check()
            if fd in ready or not ready:
                return bool(ready)
            os.read(self._woken, 4096)  # signals of others wake us too

    def pause(self, seconds: float) -> None:
        """Wait that long.  Raises Interrupted."""
        select.select([self._woken], [], [], seconds)
        self.check()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number
