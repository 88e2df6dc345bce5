"""The run directory, which is that of the control socket. One daemon has it for as long as it runs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from epaird.control.machine.privatefiles import open_file, private_directory, read_file, remove_file
from epaird.kernel.errors import KernelError

LOCK: Final = "lock"


class RunDirectory:
    """The directory, locked."""

    def __init__(self, path: Path, fd: int | None = None) -> None:
        """Lock a directory, and create it if it is missing; ``fd`` is the descriptor of a lock held already.

        Raises KernelError, EBUSY when another daemon has locked it."""
        self.path = path
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            with private_directory(path) as directory:
                self.fd = _locked(directory) if fd is None else fd
        except BlockingIOError as error:
            raise KernelError(
                errno.EBUSY,
                f"{path}: another epaird runs{_owner(path)}: stop it, or set daemon.control_socket to a "
                "path in another directory",
            ) from error
        except FileExistsError as error:
            raise KernelError.about(f"daemon.control_socket: {path}", errno.ENOTDIR) from error
        except OSError as error:
            if error.errno == errno.EPERM and error.filename is None:
                text = (
                    f"daemon.control_socket: {path} {error.strerror}; a socket in another directory is needed"
                )
                raise KernelError(errno.EPERM, text) from error
            raise KernelError.about(f"daemon.control_socket: {path}", error.errno) from error

    def release(self, *, keep: bool = False) -> None:
        """Release the lock; ``keep`` the file, for a process that continues with the lock."""
        if not keep:
            with contextlib.suppress(OSError):
                remove_file(self.path, LOCK)
        os.close(self.fd)


def _locked(directory: int) -> int:
    """Return the descriptor of a lock whose file still exists once the lock is held."""
    while True:
        fd = open_file(directory, LOCK, os.O_RDWR | os.O_CREAT)
        try:
            # A file of an earlier version was readable by everybody, who could then lock it.
            os.fchmod(fd, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.stat(LOCK, dir_fd=directory, follow_symlinks=False)
            if os.path.samestat(os.fstat(fd), there):
                os.ftruncate(fd, 0)
                _sign(fd)
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _sign(fd: int) -> None:
    try:
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # the lock holds without the pid
            raise


def _owner(path: Path) -> str:
    try:
        return f" (pid {int(read_file(path, LOCK))})"
    except (OSError, ValueError):
        return ""
