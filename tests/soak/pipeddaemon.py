"""A daemon whose log goes into a pipe, as under a service manager, and the reader of this pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.scenarios.lab import EPAIRD, Daemon, Lab
from tests.waiting import DEADLINE_S

PIPE_BYTES: Final = 4096
"""The least capacity of a pipe."""


class PipedDaemon(Daemon):
    """``epaird run`` in its home namespace. A thread reads its log, except while the log is unread."""

    def __init__(self, lab: Lab, file: Path) -> None:
        self.lab = lab
        self.file = file
        self._pipe, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            with lab.home.inside(), lab.marking():
                self.start(
                    ("bash", "-c", f'exec "$@" 2>&{writing} {writing}>&-', "-",
                     EPAIRD, "run", "--config", str(file)),
                    pass_fds=(writing,),
                )  # fmt: skip
        finally:
            os.close(writing)
        self._read = threading.Event()
        self._read.set()
        self._reader = threading.Thread(target=self._copy, name="log", daemon=True)
        self._reader.start()

    @contextlib.contextmanager
    def unread(self) -> Iterator[None]:
        """Read nothing of the log during the block, except what a read that is under way returns."""
        self._read.clear()
        try:
            yield
        finally:
            self._read.set()

    @property
    def unread_bytes(self) -> int:
        """Bytes that wait in the pipe."""
        waiting = fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(struct.calcsize("i")))
        return int(struct.unpack("i", waiting)[0])

    def wait_exit(self) -> int:
        """Wait for the end, and until the whole log is read; return the exit status."""
        status = super().wait_exit()
        self._finish()
        return status

    def kill(self) -> None:
        """Kill the process if it still runs."""
        if self.running:
            self.process.kill()
            self.process.wait()
        self._finish()
        super().kill()

    def _copy(self) -> None:
        while self._read.wait() and (part := os.read(self._pipe, PIPE_BYTES)):
            os.write(self._err.fileno(), part)
        os.close(self._pipe)

    def _finish(self) -> None:
        self._read.set()
        self._reader.join(DEADLINE_S)
        if self._reader.is_alive():
            raise AssertionError(f"another process holds its log open: {self!r}")
