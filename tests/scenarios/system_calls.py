"""The system calls of a worker, traced by strace, and bursts that the worker finds whole.

The cost of a frame is counted here, not timed. How many frames a worker finds at once depends on the
scheduler; so the sender shares the worker's core and keeps it until everything is sent (SCHED_FIFO).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tests.scenarios.lab import Lab
from tests.waiting import until

WAIT: Final = "epoll_pwait"
CLOCK: Final = "clock_gettime"
"""A heartbeat, which reads the CPU time used. Other clocks are read without a system call."""
NOTHING_TO_READ: Final = "read EAGAIN"

_CALL: Final = re.compile(r"(?m)^(\w+)\(.* = (?:-1 (E\w+) .*|\S+|\S+ \(.*\))$")
_STRING_MAX: Final = 8
"""Characters of each string that strace shows; the contents of frames do not matter."""


class Trace:
    """The system calls of one process, from ``with`` to its end."""

    def __init__(self, lab: Lab, pid: int) -> None:
        """The process has one thread and a heartbeat, as a worker has."""
        self._file = lab.directory / f"strace-{pid}"
        self._start = 0
        self._strace = lab.home.start("strace", "-s", str(_STRING_MAX), "-o", str(self._file), "-p", str(pid))

    def __enter__(self) -> Self:
        self._strace.wait_for_output("attached")
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # strace detaches on SIGINT; killed, it might leave the process stopped.
        self._strace.signal(signal.SIGINT)
        self._strace.wait_exit()

    def reset(self) -> None:
        """Count from the next heartbeat on."""
        self._start += self._next_heartbeat()

    def calls(self) -> Counter[str]:
        """Return how often each call was made, by name and error, up to the next heartbeat."""
        end = self._next_heartbeat()
        return Counter(_calls(self._text()[:end]))

    def wait_for_heartbeats(self, count: int) -> None:
        """Wait for ``count`` heartbeats."""
        until(lambda: self._text().count(CLOCK) >= count)

    def _next_heartbeat(self) -> int:
        """Wait for the next heartbeat and return the position of its end in the text."""
        before = len(self._text())
        until(lambda: _heartbeat_end(self._text(), before) > 0, self._text)
        return _heartbeat_end(self._text(), before)

    def _text(self) -> str:
        """Return the complete lines written since :meth:`reset`."""
        return self._file.read_text()[self._start :].rpartition("\n")[0] + "\n"


def _calls(text: str) -> list[str]:
    return [f"{name} {error}".rstrip() for name, error in _CALL.findall(text)]


def _heartbeat_end(text: str, start: int) -> int:
    """Return the end of the first heartbeat line that begins after ``start``; 0 when there is none."""
    found = re.compile(rf"(?m)^{CLOCK}\(.*\n").search(text, start)
    return found.end() if found else 0


class Core:
    """One core that a worker shares with a sender of higher priority, from ``with`` to its end."""

    def __init__(self, worker: int) -> None:
        """``worker`` is the pid of a process."""
        self._worker = worker
        self._affinity = os.sched_getaffinity(worker)
        self._core = {min(self._affinity)}

    def __enter__(self) -> Self:
        os.sched_setaffinity(self._worker, self._core)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(self._worker, self._affinity)

    def run_before_worker(self, do: Callable[[], object]) -> None:
        """Call a function during which the worker does not run.

        It is called in this thread. Each system call of a thread beside it would give up the interpreter's
        lock, and while the thread then waits for the lock, the worker runs.
        """
        affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._core)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        try:
            do()
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(0, affinity)
