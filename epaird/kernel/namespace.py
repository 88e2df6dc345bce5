"""Network namespaces: create, remove, identify and enter them.

A namespace is given as a name, which means /run/netns/NAME as with ``ip netns``, or as any path that
leads to one, such as /proc/PID/ns/net. A name can lead to another namespace at any time. So an operation
resolves it once, by :func:`opened`, and uses the :class:`Namespace` that it got until it ends.

The kernel keeps the namespace per thread: the functions of this module affect only the calling thread and
always return it to its own namespace.

Names and paths are in the printable form (:mod:`epaird.kernel.printable`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import pyroute2.netns

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.nscookie import known_cookie
from epaird.kernel.printable import canonical, printable, raw

RUN_DIRECTORY: Final = "/run/netns"
HOME: Final = "/proc/thread-self/ns/net"
"""Path of the calling thread's own namespace."""
_OF_PROCESS: Final = re.compile(r"/proc/+[0-9]+/")
_STATFS_BYTES: Final = 512
"""More than struct statfs has on any machine; its first member, a long, is the type of the file system."""
_IFREQ_FLAGS: Final = struct.Struct("16sH22x")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """The identity of a namespace that exists, equal for every path that leads to it."""

    device: int
    """st_dev of its file."""
    inode: int
    """st_ino of its file; the kernel soon gives it to another namespace once this one is gone."""


class Fingerprint(NamedTuple):
    """The identity of a namespace for all time, to recognise one that may have gone in the meantime."""

    device: int
    """st_dev of its file."""
    inode: int
    """st_ino of its file."""
    cookie: int = 0
    """Number that the kernel gives to no other namespace (Linux 5.14); 0 if it is unknown."""

    @property
    def identity(self) -> Identity:
        """Its identity while it exists."""
        return Identity(self.device, self.inode)

    def matches(self, other: Fingerprint) -> bool:
        """Return whether both are of one namespace, as far as both cookies are known."""
        return self.identity == other.identity and (self.cookie == other.cookie or 0 in (self[2], other[2]))


@dataclass(frozen=True, slots=True)
class Namespace:
    """An open namespace, which exists until the block that opened it ends, whatever its name leads to."""

    fd: int
    """File descriptor of the namespace."""
    identity: Identity
    """Its identity."""
    label: str
    """The name or path that it was opened by, for messages."""


def path_of(name_or_path: str) -> str:
    """Return the path of a namespace given by name or path. It need not exist.

    Paths that are equal in this form are the same bytes."""
    name_or_path = canonical(name_or_path)
    return name_or_path if "/" in name_or_path else f"{RUN_DIRECTORY}/{name_or_path}"


def is_of_process(name_or_path: str) -> bool:
    """Return whether it leads to the namespace of a process by its number, which another may have later."""
    return _OF_PROCESS.match(name_or_path) is not None


def create(name: str, before_naming: Callable[[Fingerprint], None] = lambda _: None) -> None:
    """Create a namespace as ``ip netns add`` does, with ``lo`` up.

    ``before_naming`` is called with the fingerprint before the namespace gets its name: a process that dies
    between the two leaves nothing behind. Its exceptions propagate, and then no namespace is created.
    Raises KernelError, EEXIST when a file of this name exists already.
    """
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise KernelError(errno.EINVAL, f"namespace {name!r}: not a name: no '/' and no NUL is allowed")
    path = raw(path_of(name))
    if os.path.lexists(path):
        raise KernelError(errno.EEXIST, f"namespace {name}: exists already")
    with _home_of(name) as home:
        try:
            _check(_LIBC.unshare(abi.CLONE_NEWNET))
            try:
                _bring_up_loopback()
                before_naming(Fingerprint(*identity(None), known_cookie()))
                # With thread-self this binds the new namespace without starting a process.
                pyroute2.netns.attach(path, "thread-self", libc=_LIBC)
            finally:
                _enter(home)
        except OSError as error:
            if error.errno != errno.EEXIST:
                with contextlib.suppress(OSError):
                    pyroute2.netns.remove(path, libc=_LIBC)
            raise KernelError.about(f"namespace {name}", error.errno) from error


def remove(name: str, expected: Fingerprint | None = None) -> None:
    """Remove a namespace's name. The namespace ends once nothing else holds it.

    Raises KernelError, ESTALE when the name does not lead to the ``expected`` namespace."""
    with contextlib.nullcontext() if expected is None else opened(name) as found:
        if found is not None and expected is not None and not fingerprint(found).matches(expected):
            raise KernelError(errno.ESTALE, f"namespace {name}: was replaced by another one")
        try:
            pyroute2.netns.remove(raw(path_of(name)), libc=_LIBC)
        except OSError as error:
            raise _failed(name, error) from error


def leads_to(name_or_path: str) -> Identity | None:
    """Return device and inode of the file that a name or path leads to; None if there is no file.

    It does not check whether the file is a namespace, and takes a microsecond."""
    try:
        status = os.stat(raw(path_of(name_or_path)))  # noqa: PTH116  a Path takes as long again
    except (OSError, ValueError):
        return None
    return Identity(status.st_dev, status.st_ino)


def identity(name_or_path: str | None) -> Identity:
    """Return the identity of a namespace; None is the calling thread's own. Raises KernelError."""
    if name_or_path is None:
        try:
            with _opened(HOME) as fd:
                return _identity(fd)
        except OSError as error:
            raise KernelError.about("the namespace of the daemon", error.errno) from error
    with opened(name_or_path) as found:
        return found.identity


def fingerprint(namespace: Namespace) -> Fingerprint:
    """Return the fingerprint of an open namespace. Raises KernelError when it cannot be entered."""
    with inside(namespace):
        try:
            return Fingerprint(*namespace.identity, known_cookie())
        except OSError as error:  # too many open files
            raise _failed(namespace.label, error) from error


def name_of(identity: Identity) -> str:
    """Return the name that ``ip netns`` has for a namespace; ``net:[4026532001]`` when it has none."""
    with contextlib.suppress(FileNotFoundError):
        directory = raw(RUN_DIRECTORY)
        for name in os.listdir(directory):  # noqa: PTH208  a Path has no bytes
            with contextlib.suppress(OSError):
                status = os.stat(directory + b"/" + name)  # noqa: PTH116
                if (status.st_dev, status.st_ino) == identity:
                    return printable(name)
    return nameless(identity)


def nameless(identity: Identity) -> str:
    """Return the label of a namespace that has no name, or whose name does not matter."""
    return f"net:[{identity.inode}]"


@contextlib.contextmanager
def opened(name_or_path: str) -> Iterator[Namespace]:
    """Open a namespace; its handle keeps it alive until the block ends.

    Nothing but a namespace is opened: a FIFO would wait for its other end, and opening a device may have an
    effect. Raises KernelError when the path does not lead to a network namespace.
    """
    with contextlib.ExitStack() as stack:
        try:
            # O_PATH does nothing to the file, and starts no automount.
            found = stack.enter_context(_opened(raw(path_of(name_or_path)), os.O_PATH))
            if not _is_on_nsfs(found):
                raise KernelError(errno.EINVAL, f"namespace {name_or_path}: is not a network namespace")
            # setns() refuses a descriptor of O_PATH.
            fd = stack.enter_context(_opened(f"/proc/self/fd/{found}"))
        except OSError as error:
            raise _failed(name_or_path, error) from error
        except ValueError as error:  # a NUL, or a surrogate that stands for no byte
            raise KernelError(errno.EINVAL, f"namespace {name_or_path}: is not a file's name") from error
        if not _is_network_namespace(fd):
            raise KernelError(errno.EINVAL, f"namespace {name_or_path}: is not a network namespace")
        yield Namespace(fd, _identity(fd), name_or_path)


def of_descriptor(fd: int) -> Namespace:
    """Return the handle of a namespace that is open already; the descriptor stays the caller's."""
    identity = _identity(fd)
    return Namespace(fd, identity, nameless(identity))


@contextlib.contextmanager
def inside(namespace: Namespace | None) -> Iterator[None]:
    """Enter a namespace, in the calling thread and for the block only; None is the thread's own.

    A socket created in the block belongs to the namespace and keeps it alive until closed. Entering the
    thread's own needs no privilege. Raises KernelError before the block when the namespace cannot be entered.
    """
    if namespace is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            home = stack.enter_context(_opened(HOME))
            if _identity(home) != namespace.identity:
                _enter(namespace.fd)
                stack.callback(_enter, home)
        except OSError as error:
            raise _failed(namespace.label, error) from error
        yield


@contextlib.contextmanager
def _home_of(name: str) -> Iterator[int]:
    """Open the calling thread's own namespace. Raises KernelError about the namespace ``name``."""
    with contextlib.ExitStack() as stack:
        try:
            home = stack.enter_context(_opened(HOME))
        except OSError as error:
            raise _failed(name, error) from error
        yield home


@contextlib.contextmanager
def _opened(path: str | bytes, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _identity(fd: int) -> Identity:
    status = os.fstat(fd)
    return Identity(status.st_dev, status.st_ino)


def _is_on_nsfs(fd: int) -> bool:
    """Return whether a file is a namespace of any kind, without using the file."""
    status = ctypes.create_string_buffer(_STATFS_BYTES)
    _check(_LIBC.fstatfs(fd, status))
    return ctypes.c_long.from_buffer(status).value == abi.NSFS_MAGIC


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
