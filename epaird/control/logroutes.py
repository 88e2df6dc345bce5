"""Routes of what Python itself writes to stderr, through the log.

Python prints warnings, exceptions in threads and those that nothing can catch with a blocking write(), on the
event loop if they occur there. A pipe that is not read would stop the daemon. So each becomes a line of the
log, and so does everything else that is written to ``sys.stderr``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Final, TextIO

log = logging.getLogger(__name__)

_OF_UVLOOP: Final = "UVProcessTransport is open in __dealloc__"
"""The report of uvloop about a process that cannot be started. Its caller gets the failure, too."""


class LogStream(io.TextIOBase):
    """A text stream whose lines are logged; its descriptor is that of another stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._rest = ""

    def write(self, text: str) -> int:
        """Log each complete line, and keep the rest for the next call."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip() and _OF_UVLOOP not in line:
                log.error("%s", line)
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the other stream."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether the other stream is a terminal."""
        return self._stream.isatty()


@contextlib.contextmanager
def logged_stderr() -> Iterator[None]:
    """Log what Python writes to stderr while the block runs."""
    stream, unraisable, in_thread = sys.stderr, sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = _unraisable, _in_thread
    sys.stderr = LogStream(stream)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        sys.stderr, sys.unraisablehook, threading.excepthook = stream, unraisable, in_thread


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    if _OF_UVLOOP in str(found.exc_value):
        return
    what = found.err_msg or "exception ignored"
    error = found.exc_value
    trace = (found.exc_type, error, found.exc_traceback) if error is not None else None
    # Not the object itself: that may be half destroyed, and its repr() may fail.
    log.error("internal error: %s in %s: %r", what, type(found.object).__name__, error, exc_info=trace)


def _in_thread(found: threading.ExceptHookArgs) -> None:
    if issubclass(found.exc_type, SystemExit):
        return
    name = found.thread.name if found.thread is not None else "unknown"
    error = found.exc_value
    trace = (found.exc_type, error, found.exc_traceback) if error is not None else None
    log.error("internal error: thread %s failed: %r", name, error, exc_info=trace)
