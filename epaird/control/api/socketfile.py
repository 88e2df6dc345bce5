"""The control socket's file: made for root and one group, taken over from the dead, never from the living."""

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

from epaird.control.http.serving import BACKLOG, ListenError

log = logging.getLogger(__name__)

MODE: Final = 0o660


class SocketFile:
    """A listening socket and its file."""

    def __init__(self, path: Path, group: int | None) -> None:
        """Listen at ``path``, for root (or the daemon's own user) and the group of this number.

        Its directory is made when it is missing.  Raises ListenError, also when another daemon listens
        there."""
        self.path = path
        try:
            with contextlib.suppress(FileExistsError):  # the next line says it when it is no directory
                path.parent.mkdir(mode=0o755, parents=True)
            with _alone_at(path):
                _clear(path)
                self.listener = _listen(path, group)
            self._identity = _identity(path)
        except OSError as error:
            raise _fault(path, os.strerror(error.errno or 0)) from error

    @classmethod
    def resumed(cls, path: Path, listener: socket.socket) -> SocketFile:
        """The file of a socket that this very process has been listening on.  Raises ListenError."""
        file = cls.__new__(cls)
        file.path, file.listener = path, listener
        try:
            file._identity = _identity(path)
        except OSError as error:
            raise _fault(path, os.strerror(error.errno or 0)) from error
        return file

    def remove(self) -> None:
        """Take the file away, unless another daemon has put its own in its place.

        The socket itself stays its user's to close."""
        with contextlib.suppress(OSError), _alone_at(self.path):
            if _identity(self.path) == self._identity:
                self.path.unlink()


@contextlib.contextmanager
def _alone_at(path: Path) -> Iterator[None]:
    """Two daemons that start at once would each remove the other's file for a dead one's.

    For this moment there is a file beside the socket's, which bears the lock."""
    beside = path.with_name(path.name + ".lock")
    while True:
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_there(fd, beside):  # otherwise who had it before has removed it meanwhile
                try:
                    yield
                finally:
                    beside.unlink()
                return
        finally:
            os.close(fd)


def _is_there(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _clear(path: Path) -> None:
    """Remove the socket file of a daemon that is dead."""
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
    # EAGAIN is somebody with many clients, EPROTOTYPE another program's datagram socket.
    return code not in (errno.ECONNREFUSED, errno.ENOENT)


def _listen(path: Path, group: int | None) -> socket.socket:
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        # The socket's own mode becomes the file's: at no time can a stranger connect, whatever the umask.
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
        log.warning("%s: cannot be given to group %d: only our own user and root can use it", path, group)


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _fault(path: Path, what: str) -> ListenError:
    return ListenError(f"daemon.control_socket: {path}: {what}")
