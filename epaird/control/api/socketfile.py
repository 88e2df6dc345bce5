"""The control socket's file, for root and one group. It replaces only the file of a dead daemon."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from epaird.control.http.listening import BACKLOG, ListenError
from epaird.control.machine.privatefiles import file_identity

log = logging.getLogger(__name__)

MODE: Final = 0o660


class SocketFile:
    """A listening socket and its file."""

    def __init__(self, path: Path, group: int | None) -> None:
        """Listen at ``path``, for root (or the daemon's own user) and the members of ``group``.

        A missing directory is created. Raises ListenError, also if another daemon listens there."""
        self.path = path
        try:
            with contextlib.suppress(FileExistsError):  # _lock() fails if it is not a directory
                path.parent.mkdir(mode=0o755, parents=True)
            with _lock(path):
                _clear(path)
                self.listener = _listen(path, group)
            self._identity = file_identity(path)
        except OSError as error:
            raise _fault(path, os.strerror(error.errno or 0)) from error

    @classmethod
    def resumed(cls, path: Path, listener: socket.socket) -> SocketFile:
        """Return the file of a socket that this process listens on already."""
        file = cls.__new__(cls)
        file.path, file.listener = path, listener
        file._identity = file_identity(path)  # others may have removed it
        return file

    @property
    def exists(self) -> bool:
        """True while the path leads to this socket."""
        return self._identity is not None and file_identity(self.path) == self._identity

    def remove(self) -> None:
        """Remove the file, unless another daemon has replaced it. The socket is not closed."""
        with contextlib.suppress(OSError), _lock(self.path):
            if self.exists:
                self.path.unlink()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock for the socket's path, in a file beside it that exists only for this time.

    Without it two daemons that start at once could each take the other's file for a dead daemon's."""
    lock = path.with_name(path.name + ".lock")
    while True:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(fd, lock):  # otherwise the previous holder has removed it
                try:
                    yield
                finally:
                    lock.unlink()
                return
        finally:
            os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _clear(path: Path) -> None:
    """Remove the socket file of a dead daemon."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _fault(path, "exists and is not a socket")
    if _is_alive(path):
        raise _fault(path, "another epaird listens there")
    path.unlink()


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(str(path))
    # EAGAIN is a daemon with many clients, EPROTOTYPE another program's datagram socket.
    return code not in (errno.ECONNREFUSED, errno.ENOENT)


def _listen(path: Path, group: int | None) -> socket.socket:
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        # The file gets the socket's mode, so that no other user can ever connect, whatever the umask.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        undo.callback(path.unlink)
        if group is not None:
            _give_to(path, group)
        path.chmod(MODE)
        listener.listen(BACKLOG)
        undo.pop_all()
    return listener


def _give_to(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
    except PermissionError:
        log.warning(
            "%s: cannot change its group to %d: only the daemon's own user and root can use it", path, group
        )


def _fault(path: Path, what: str) -> ListenError:
    return ListenError(f"daemon.control_socket: {path}: {what}")
