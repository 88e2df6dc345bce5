"""The run directory, which is that of the control socket. One daemon has it for as long as it runs."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from epaird.kernel.errors import KernelError

LOCK: Final = "lock"


class RunDirectory:
    """The directory, locked."""

    def __init__(self, path: Path, fd: int | None = None) -> None:
        """Lock a directory, and create it if it is missing; ``fd`` is the descriptor of a lock held already.

        Raises KernelError, EBUSY when another daemon has locked it."""
        self.path = path
        self._file = path / LOCK
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.fd = self._locked() if fd is None else fd
        except BlockingIOError as error:
            raise KernelError(
                errno.EBUSY,
                f"{path}: another epaird runs{self._owner()}: stop it, or set daemon.control_socket to a "
                "path in another directory",
            ) from error
        except FileExistsError as error:
            raise KernelError.about(f"daemon.control_socket: {path}", errno.ENOTDIR) from error
        except OSError as error:
            raise KernelError.about(f"daemon.control_socket: {path}", error.errno) from error

    def release(self, *, keep: bool = False) -> None:
        """Release the lock; ``keep`` the file, for a process that continues with the lock."""
        if not keep:
            self._file.unlink(missing_ok=True)
        os.close(self.fd)

    def _locked(self) -> int:
        """Return the descriptor of a lock whose file still exists once the lock is held."""
        while True:
            fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), self._file.stat()):
                    os.ftruncate(fd, 0)
                    self._sign(fd)
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _sign(self, fd: int) -> None:
        try:
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            if error.errno != errno.ENOSPC:  # the lock holds without the pid
                raise

    def _owner(self) -> str:
        try:
            return f" (pid {int(self._file.read_text())})"
        except (OSError, ValueError):
            return ""
