"""Network namespaces: create, remove, identify and enter them.

A namespace is given as a name, which means /run/netns/NAME as with ``ip netns``, or as any path that
leads to one, such as /proc/PID/ns/net. The kernel keeps the namespace per thread: the functions of this
module affect only the calling thread and always return it to its own namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pyroute2.netns

from epaird.kernel import abi
from epaird.kernel.errors import KernelError

RUN_DIRECTORY: Final = "/run/netns"
_HOME: Final = "/proc/thread-self/ns/net"
_IFREQ_FLAGS: Final = struct.Struct("16sH22x")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """The identity of a namespace, equal for every path that leads to it."""

    device: int
    """st_dev of its file."""
    inode: int
    """st_ino of its file; the kernel may use it again once the namespace is gone."""


def path_of(name_or_path: str) -> str:
    """Return the path of a namespace given by name or path. It need not exist."""
    return name_or_path if "/" in name_or_path else f"{RUN_DIRECTORY}/{name_or_path}"


def create(name: str, before_naming: Callable[[Identity], None] = lambda _: None) -> None:
    """Create a namespace as ``ip netns add`` does, with ``lo`` up.

    ``before_naming`` is called with the identity before the namespace gets its name: a process that dies
    between the two leaves nothing behind. Its exceptions propagate, and then no namespace is created.
    Raises KernelError, EEXIST when a file of this name exists already.
    """
    if not name.isascii() or "/" in name or name in ("", ".", ".."):
        raise KernelError(errno.EINVAL, f"namespace {name!r}: not a name: ASCII without '/' is allowed")
    path = path_of(name)
    if os.path.lexists(path):
        raise KernelError(errno.EEXIST, f"namespace {name}: exists already")
    with _opened(_HOME) as home:
        try:
            _check(_LIBC.unshare(abi.CLONE_NEWNET))
            try:
                _bring_up_loopback()
                before_naming(identity(None))
                # With thread-self this binds the new namespace without starting a process.
                pyroute2.netns.attach(path, "thread-self", libc=_LIBC)
            finally:
                _enter(home)
        except OSError as error:
            if error.errno != errno.EEXIST:
                with contextlib.suppress(OSError):
                    pyroute2.netns.remove(path, libc=_LIBC)
            raise KernelError.about(f"namespace {name}", error.errno) from error


def remove(name: str) -> None:
    """Remove a namespace's name. The namespace ends once nothing else holds it. Raises KernelError."""
    try:
        pyroute2.netns.remove(path_of(name), libc=_LIBC)
    except OSError as error:
        raise _failed(name, error) from error


def identity(name_or_path: str | None) -> Identity:
    """Return the identity of a namespace; None is the calling thread's own. Raises KernelError."""
    with _opened(_HOME) if name_or_path is None else opened(name_or_path) as fd:
        status = os.fstat(fd)
        return Identity(status.st_dev, status.st_ino)


def name_of(identity: Identity) -> str:
    """Return the name that ``ip netns`` has for a namespace; ``net:[4026532001]`` when it has none."""
    with contextlib.suppress(FileNotFoundError):
        for entry in Path(RUN_DIRECTORY).iterdir():
            with contextlib.suppress(OSError):
                status = entry.stat()
                if (status.st_dev, status.st_ino) == identity:
                    return entry.name
    return f"net:[{identity.inode}]"


@contextlib.contextmanager
def opened(name_or_path: str) -> Iterator[int]:
    """Open a namespace; its file descriptor keeps it alive until the block ends.

    Raises KernelError when the path does not lead to a network namespace.
    """
    try:
        fd = os.open(path_of(name_or_path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(name_or_path, error) from error
    try:
        if not _is_network_namespace(fd):
            raise KernelError(errno.EINVAL, f"namespace {name_or_path}: is not a network namespace")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def inside(name_or_path: str) -> Iterator[None]:
    """Enter a namespace, in the calling thread and for the block only.

    A socket created in the block belongs to the namespace and keeps it alive until closed. Raises
    KernelError before the block when the namespace cannot be entered.
    """
    with _opened(_HOME) as home, opened(name_or_path) as fd:
        try:
            _enter(fd)
        except OSError as error:
            raise _failed(name_or_path, error) from error
        try:
            yield
        finally:
            _enter(home)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_network_namespace(fd: int) -> bool:
    try:
        kind: int = fcntl.ioctl(fd, abi.NS_GET_NSTYPE, 0)
    except OSError:
        return False
    return kind == abi.CLONE_NEWNET


def _enter(fd: int) -> None:
    _check(_LIBC.setns(fd, abi.CLONE_NEWNET))  # os.setns exists from Python 3.12 on


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        request = _IFREQ_FLAGS.pack(b"lo", abi.IFF_UP)
        fcntl.ioctl(any_socket, abi.SIOCSIFFLAGS, request)


def _failed(name_or_path: str, error: OSError) -> KernelError:
    if error.errno != errno.ENOENT:
        return KernelError.about(f"namespace {name_or_path}", error.errno)
    advice = "" if "/" in name_or_path else ": create it, or list it under namespaces.create"
    return KernelError(errno.ENOENT, f"namespace {name_or_path}: does not exist{advice}")
