"""What a worker process writes to its standard error: lines of the log, as long as they are few.

The process has the writing end of a pipe and nothing else of the control plane's: not its terminal, which it
could read, nor its file, which it could shorten. Each end is non-blocking, so that neither process waits for
the other. A process writes when it fails, once: of one that writes much more than a traceback, no more is
logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from epaird.kernel.printable import one_line

log = logging.getLogger(__name__)

BYTES_MAX: Final = 32 * 1024
"""Bytes that are logged of one process."""
LINE_MAX: Final = 1024
"""Characters of the longest line; longer ones are broken."""
_PIECE: Final = 4096


class Output:
    """The standard error of one process."""

    def __init__(self) -> None:
        """Open the pipe. Raises OSError."""
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        """``writing`` is the process's end, which the caller has to close."""
        self._rest = b""
        self._bytes = 0
        self._pid = 0

    def follow(self, pid: int) -> None:
        """Log what the process writes until it ends."""
        self._pid = pid
        asyncio.get_running_loop().add_reader(self._reading, self._readable)

    def close(self) -> None:
        """Close the control plane's end, if it is not being followed."""
        os.close(self._reading)

    def _readable(self) -> None:
        try:
            piece = os.read(self._reading, _PIECE)
        except BlockingIOError:
            return
        self._bytes += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        while len(self._rest) > LINE_MAX or (self._rest and not piece):
            lines.append(self._rest[:LINE_MAX])
            self._rest = self._rest[LINE_MAX:]
        for line in lines:
            log.warning("worker process %d: %s", self._pid, _text(line[:LINE_MAX]))
        if self._bytes > BYTES_MAX:
            log.warning("worker process %d: it writes more; this is not logged any more", self._pid)
        if self._bytes > BYTES_MAX or not piece:
            asyncio.get_running_loop().remove_reader(self._reading)
            self.close()


def _text(line: bytes) -> str:
    return one_line(line.decode(errors="surrogateescape"))
