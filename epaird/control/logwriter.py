"""Writes lines to a descriptor in a thread of its own.

A pipe that is not read, a stopped terminal or a full journal blocks write(). Only this thread is then
blocked. Lines that arrive meanwhile wait, up to a limit; further lines are lost, counted, and reported where
they are missing.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from epaird.startup import block_signals

LINES: Final = 1000
"""Most lines that wait to be written."""
LINE_BYTES: Final = 1 << 14
"""Longest line in bytes; the rest of a longer one is left out."""


class LineWriter:
    """Writes to one descriptor."""

    def __init__(self, fd: int, gap: Callable[[int], str], *, lines: int = LINES) -> None:
        """``gap`` returns the line that reports a number of lost lines; ``lines`` is the limit."""
        self._fd = fd
        self._gap = gap
        self._limit = lines
        self._lost = 0
        self._unreported = 0
        self._waiting: deque[str] = deque()
        self._writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    @property
    def lost(self) -> int:
        """Lines that were lost so far."""
        return self._lost

    def write(self, line: str) -> None:
        """Write a line soon, without waiting; the line is lost when too many wait already."""
        with self._changed:
            if len(self._waiting) >= self._limit:
                self._lost += 1
                self._unreported += 1
                return
            self._report_gap()
            self._waiting.append(line)
            self._changed.notify_all()

    def flush(self, patience_s: float) -> bool:
        """Wait until every line is written, for at most ``patience_s`` seconds; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._waiting or self._writing), patience_s)

    def _report_gap(self) -> None:
        if self._unreported:
            self._waiting.append(self._gap(self._unreported))
            self._unreported = 0

    def _run(self) -> None:
        block_signals()
        while True:
            with self._changed:
                self._writing = False
                if not self._waiting:
                    self._report_gap()
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                line = self._waiting.popleft()
                self._writing = True
            if not self._written(line.encode("utf-8", "backslashreplace")[:LINE_BYTES] + b"\n"):
                with self._changed:
                    self._lost += 1

    def _written(self, data: bytes) -> bool:
        """Write all of ``data``; return False when the descriptor cannot be written to."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # another process has made the open file description non-blocking
                select.select((), (self._fd,), ())
            except OSError:
                return False
        return True


class LineHandler(logging.Handler):
    """Passes formatted records to a :class:`LineWriter`."""

    def __init__(self, fd: int, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.writer = LineWriter(fd, self._gap)

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record in the calling thread and write it in the other one."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  a faulty message must not end what it is about
            line = f"internal error: a log message cannot be formatted: {record.msg!r}"
        self.writer.write(line)

    def _gap(self, lost: int) -> str:
        message = f"{lost} lines of the log were lost here: it was not read fast enough"
        return self.format(logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None))
