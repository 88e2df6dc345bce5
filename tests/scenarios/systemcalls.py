"""Every system call of a worker, by strace, and bursts that it finds whole.

What a frame costs is counted here, not timed.  How many frames a worker finds at once depends on who
runs when; so the sender shares the worker's core and keeps it until all is sent (SCHED_FIFO)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tests.scenarios.lab import Lab
from tests.waiting import until

WAIT: Final = "epoll_pwait"
CLOCK: Final = "clock_gettime"
"""A heartbeat, which tells the CPU time used.  Other clocks are read without a system call."""
NOTHING_TO_READ: Final = "read EAGAIN"

_CALL: Final = re.compile(r"(?m)^(\w+)\(.* = (?:-1 (E\w+) .*|\S+|\S+ \(.*\))$")
_ONLY: Final = 8
"""Characters of each string that strace shows: one frame is not the other's business."""


class Trace:
    """The system calls of one process, from ``with`` to its end."""

    def __init__(self, lab: Lab, pid: int) -> None:
        """The process has one thread, and beats as a worker does."""
        self._file = lab.directory / f"strace-{pid}"
        self._start = 0
        self._strace = lab.home.start("strace", "-s", str(_ONLY), "-o", str(self._file), "-p", str(pid))

    def __enter__(self) -> Self:
        self._strace.says("attached")
        self.forget()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Only so does it let go of the process; killed it might leave it stopped.
        self._strace.signal(signal.SIGINT)
        self._strace.ended()

    def forget(self) -> None:
        """Count from here on, from a heartbeat to a heartbeat."""
        self._start += self._behind_a_beat()

    def calls(self) -> Counter[str]:
        """How many there were of each, by name and error, until a heartbeat behind all that is done."""
        end = self._behind_a_beat()
        return Counter(_calls(self._text()[:end]))

    def await_beats(self, count: int) -> None:
        """Wait for so many heartbeats."""
        until(lambda: self._text().count(CLOCK) >= count)

    def _behind_a_beat(self) -> int:
        """Wait for the next heartbeat; where it ends in the text."""
        before = len(self._text())
        until(lambda: _end_of_beat(self._text(), before) > 0, self._text)
        return _end_of_beat(self._text(), before)

    def _text(self) -> str:
        """What was written since ``forget``, without a line that is not whole."""
        return self._file.read_text()[self._start :].rpartition("\n")[0] + "\n"


def _calls(text: str) -> list[str]:
    return [f"{name} {error}".rstrip() for name, error in _CALL.findall(text)]


def _end_of_beat(text: str, start: int) -> int:
    """Where the first heartbeat's line ends that begins behind ``start``; 0 when there is none."""
    found = re.compile(rf"(?m)^{CLOCK}\(.*\n").search(text, start)
    return found.end() if found else 0


class Core:
    """One core that a worker has to share with a sender who goes before it, from ``with`` to its end."""

    def __init__(self, worker: int) -> None:
        """``worker`` is the pid of a process."""
        self._worker = worker
        self._usual = os.sched_getaffinity(worker)
        self._core = {min(self._usual)}

    def __enter__(self) -> Self:
        os.sched_setaffinity(self._worker, self._core)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(self._worker, self._usual)

    def at_once(self, do: Callable[[], object]) -> None:
        """Do something during which the worker does not run."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                os.sched_setaffinity(0, self._core)
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
                do()
            except BaseException as failure:  # noqa: BLE001 (raised again by who waits)
                failures.append(failure)

        thread = threading.Thread(target=run, name="sender")
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
