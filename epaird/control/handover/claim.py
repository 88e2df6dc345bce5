"""The claim on a run directory that holds while the directory is gone: an abstract socket (unix(7)).

1. The lock is a file in the directory, and others may remove both. A daemon that starts then would find
   nothing. So each daemon also has a socket whose name is that of the directory; the kernel gives it to one
   socket only, and frees it with the process.
2. The name is made of the directory's path without links and of the file system that its parent is on: a
   container has another one. It does not depend on the directory itself, which may be created again.
3. An abstract name has no permissions: any user may have taken it. So a socket with this name counts only if
   a process of root or of the daemon's own user listens on it; otherwise the lock alone has to do.
4. Such names belong to a network namespace. A daemon in another one finds the lock, unless it starts in the
   milliseconds in which there is none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import socket
import struct
import time
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

BACKLOG: Final = 64
PATIENCE_S: Final = 0.5
"""Time in seconds for which a socket whose queue of connections is full is asked again for its owner."""
_AGAIN_S: Final = 0.01
_UCRED: Final = struct.Struct("iII")
"""struct ucred of linux/socket.h."""


class Claimed(Exception):
    """Another daemon has claimed the directory."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"claimed by pid {pid}")
        self.pid = pid
        """Process id of that daemon."""


class Claim:
    """The claim on one directory, from its creation to :meth:`close`."""

    def __init__(self, directory: Path, passed: int | None = None) -> None:
        """Claim a directory, which need not exist; ``passed`` is the descriptor of a claim held already.

        Raises Claimed, or OSError."""
        self._socket: socket.socket | None = None
        if passed is not None:
            self._socket = socket.socket(fileno=passed)
            return
        address = name_of(directory)
        with contextlib.ExitStack() as undo:
            found = undo.enter_context(_new_socket())
            try:
                found.bind(address)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                pid, uid = owner(address)
                if uid in (0, os.geteuid()):
                    raise Claimed(pid) from error
                log.warning(
                    "another user's process has the abstract socket %s: a second daemon is noticed by the "
                    "lock only", address[1:].decode(),
                )  # fmt: skip
                return
            found.listen(BACKLOG)
            found.setblocking(False)
            undo.pop_all()
            self._socket = found

    def fileno(self) -> int:
        """Return the descriptor, which is readable when a daemon has asked; -1 without a claim."""
        return self._socket.fileno() if self._socket is not None else -1

    def answer(self) -> None:
        """Close the connections of daemons that have asked; they know the owner already."""
        with contextlib.suppress(OSError):
            while self._socket is not None:
                self._socket.accept()[0].close()

    def close(self) -> None:
        """Give the claim up, unless another process has a copy. A second call does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def name_of(directory: Path) -> bytes:
    """Return the abstract name for a directory, which need not exist. Raises OSError."""
    real = Path(os.path.realpath(directory))
    device = 0
    for parent in real.parents:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            device = parent.stat().st_dev
            break
    digest = hashlib.sha256(f"{device}:".encode() + os.fsencode(real)).hexdigest()
    return f"\0epaird/{digest[:32]}".encode()


def owner(address: bytes) -> tuple[int, int]:
    """Return process id and user of the process that listens on an abstract socket; -1 if it is unknown."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with _new_socket() as probe, contextlib.suppress(OSError):
            probe.setblocking(False)
            if (code := probe.connect_ex(address)) == 0:
                pid, uid, _ = _UCRED.unpack(
                    probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
                )
                return pid, uid
            if code != errno.EAGAIN or time.monotonic() > deadline:
                return -1, -1
        time.sleep(_AGAIN_S)


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
