"""The run directory, which is that of the control socket. One daemon has it for as long as it runs.

Others may remove or replace the directory and every file in it, for example by ``rm -rf /run/epaird/*``. The
daemon then creates them again (:mod:`epaird.control.handover.upkeep`); the claim keeps other daemons out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from epaird.control.handover.claim import Claim, Claimed
from epaird.control.machine.privatefiles import open_file, private_directory, read_file
from epaird.kernel.errors import KernelError

LOCK: Final = "lock"


class RunDirectory:
    """The directory, claimed and locked."""

    def __init__(self, path: Path, fd: int | None = None, claim: int | None = None) -> None:
        """Claim and lock a directory, and create it if it is missing.

        ``fd`` and ``claim`` are the descriptors of a lock and a claim that are held already. Raises
        KernelError, EBUSY when another daemon has one of them."""
        self.path = path
        try:
            self.claim = Claim(path, claim)
        except Claimed as error:
            raise _busy(path, f" (pid {error.pid})") from error
        except OSError as error:
            raise KernelError.about(f"daemon.control_socket: {path}", error.errno) from error
        self.fd = -1 if fd is None else fd
        self._directory = -1
        """Descriptor of the directory: its inode is not used again as long as it is open."""
        self._owner: tuple[int, int] | None = None
        """User and group that the directory had."""
        try:
            self.restore()
        except BaseException:
            self.claim.close()
            raise

    @property
    def held(self) -> bool:
        """True while the path leads to the directory and the lock's file in it is the locked one."""
        try:
            there = (self.path.stat(), (self.path / LOCK).lstat())
        except OSError:
            return False
        return all(map(os.path.samestat, map(os.fstat, (self._directory, self.fd)), there))

    def restore(self) -> None:
        """Create the directory if it is missing, and lock what the path leads to. Raises KernelError."""
        path = self.path
        try:
            made = not path.exists()
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            with private_directory(path) as directory:
                if made and self._owner is not None:
                    _give_to(directory, *self._owner)
                self._lock(directory)
                self._keep(directory)
        except BlockingIOError as error:
            raise _busy(path, _locker(path)) from error
        except FileExistsError as error:
            raise KernelError.about(f"daemon.control_socket: {path}", errno.ENOTDIR) from error
        except OSError as error:
            if error.errno == errno.EPERM and error.filename is None:
                text = (
                    f"daemon.control_socket: {path} {error.strerror}; a socket in another directory is needed"
                )
                raise KernelError(errno.EPERM, text) from error
            number = error.errno or errno.EIO
            raise KernelError(number, f"daemon.control_socket: {path}: {os.strerror(number)}") from error

    def release(self, *, keep: bool = False) -> None:
        """Release claim and lock; ``keep`` the lock's file, for a process that continues with the lock."""
        if not keep and self.held:
            with contextlib.suppress(OSError):
                os.unlink(LOCK, dir_fd=self._directory)
        os.close(self.fd)
        os.close(self._directory)
        self.claim.close()

    def _lock(self, directory: int) -> None:
        """Lock the file in a directory, unless it is the one that is locked already."""
        if self.fd >= 0 and _is_at(self.fd, directory):
            return
        before, self.fd = self.fd, _locked(directory)
        if before >= 0:
            os.close(before)

    def _keep(self, directory: int) -> None:
        before, self._directory = self._directory, os.dup(directory)
        if before >= 0:
            os.close(before)
        status = os.fstat(directory)
        self._owner = status.st_uid, status.st_gid


def _busy(path: Path, whose: str) -> KernelError:
    text = (
        f"{path}: another epaird runs{whose}: stop it, or set daemon.control_socket to a path in another "
        "directory"
    )
    return KernelError(errno.EBUSY, text)


def _give_to(directory: int, user: int, group: int) -> None:
    with contextlib.suppress(PermissionError):
        os.fchmod(directory, 0o755)  # whatever the umask
        os.fchown(directory, user, group)


def _is_at(fd: int, directory: int) -> bool:
    """Return whether the lock's file in a directory is that of a descriptor."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(LOCK, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _locked(directory: int) -> int:
    """Return the descriptor of a lock whose file still exists once the lock is held."""
    while True:
        fd = open_file(directory, LOCK, os.O_RDWR | os.O_CREAT)
        try:
            # A file of an earlier version was readable by everybody, who could then lock it.
            os.fchmod(fd, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, directory):
                os.ftruncate(fd, 0)
                _sign(fd)
                return fd
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


def _locker(path: Path) -> str:
    try:
        return f" (pid {int(read_file(path, LOCK))})"
    except (OSError, ValueError):
        return ""
