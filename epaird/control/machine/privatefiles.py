"""Files of a directory that no other user may write to.

The daemon adopts and kills processes by the files that it reads there, and a file that it writes could be a
link to another one. So the directory has to belong to the daemon's user or to root, and every file is opened
relative to the directory's descriptor, without following links.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BYTES_MAX: Final = 1 << 28
"""Most bytes that are read from a file: a pair takes some 2 KB in the state file."""
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextlib.contextmanager
def private_directory(path: Path) -> Iterator[int]:
    """Open a directory that no other user may write to.

    Raises OSError, EPERM when another user owns it or may write to it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid not in (0, os.geteuid()):
            raise OSError(errno.EPERM, f"belongs to user {status.st_uid}, who could replace the files in it")
        if status.st_mode & _OTHERS:
            mode = stat.S_IMODE(status.st_mode)
            raise OSError(
                errno.EPERM, f"has mode {mode:04o}, so that other users could replace the files in it"
            )
        yield fd
    finally:
        os.close(fd)


def open_file(directory: int, name: str, flags: int) -> int:
    """Open a regular file of a directory, created with mode 0600 if ``flags`` has O_CREAT. Raises OSError."""
    fd = os.open(name, flags | _FLAGS, 0o600, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file")
    return fd


def read_file(directory: Path, name: str) -> bytes:
    """Return the contents of a file. Raises OSError."""
    with private_directory(directory) as at, os.fdopen(open_file(at, name, os.O_RDONLY), "rb") as file:
        data = file.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise OSError(errno.EFBIG, f"has more than {BYTES_MAX} bytes")
    return data


def replace_file(directory: Path, name: str, data: bytes) -> None:
    """Replace a file in one step by one that only its owner may read. Raises OSError."""
    fresh = f"{name}.new"
    with private_directory(directory) as at:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=at)
        try:
            with os.fdopen(open_file(at, fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
            os.replace(fresh, name, src_dir_fd=at, dst_dir_fd=at)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=at)
            raise


def append_file(directory: Path, name: str, data: bytes) -> None:
    """Append to a file that exists. Raises OSError; then a part may have been appended."""
    with private_directory(directory) as at:
        fd = open_file(at, name, os.O_WRONLY | os.O_APPEND)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file at one moment: a file that was written or replaced since has another one."""

    device: int
    inode: int
    bytes: int
    modified_ns: int


def stamp(directory: Path, name: str) -> Stamp | None:
    """Return the stamp of a file; None if there is none."""
    try:
        status = (directory / name).lstat()
    except OSError:
        return None
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def remove_file(directory: Path, name: str) -> None:
    """Remove a file, if it exists. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), private_directory(directory) as at:
        os.unlink(name, dir_fd=at)


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
