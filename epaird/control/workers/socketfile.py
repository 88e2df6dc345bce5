"""The socket at which a worker process listens for the next control plane, and its file."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


def socket_name(pid: int | str) -> str:
    """Return the name of the socket file of a worker process; ``*`` gives the pattern for all."""
    return f"worker-{pid}.sock"


@contextlib.contextmanager
def by_directory(path: Path) -> Iterator[str]:
    """Yield a short name for the path of a socket, which may have 107 bytes (unix(7))."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def listening_socket(path: Path) -> socket.socket:
    """Return a socket that listens at a path and is accessible to its owner only. Raises OSError."""
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        # The socket's own mode becomes the file's.
        os.fchmod(listener.fileno(), 0o600)
        path.unlink(missing_ok=True)
        with by_directory(path) as short:
            listener.bind(short)
        listener.listen(1)
        undo.pop_all()
    return listener
