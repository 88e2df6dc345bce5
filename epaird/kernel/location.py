"""Devices in their namespaces: verified to be where they are expected, and then changed there.

Theory of operation:

1. A device is identified by its descriptor. Its name, its interface index and the name of its namespace can
   each be given to another device or namespace while the descriptor stays the same.
2. rtnetlink takes an index in the namespace of the socket. So the namespace is opened by the descriptor
   (TUNGETDEVNETNS), never by a name, and entered; then the index is looked up there by the name that the
   descriptor gives (TUNGETIFF), and all is read again: a device that was renamed or moved in between has
   another name, index or namespace now.
3. While the namespace is open it exists, and the kernel gives the index of a device to no other one there.
   So a request by index changes this device, or none when the device has left.
4. The handle is closed at once after the change: it keeps the namespace alive.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from epaird.kernel import tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity, inside
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.printable import raw

_ATTEMPTS: Final = 8
"""Look-ups of a device that is renamed during each of them."""


@dataclass(frozen=True, slots=True)
class Location:
    """A device and the place where it is expected."""

    device: str
    """The device's name in messages."""
    fd: int
    """Its file descriptor."""
    index: int
    """Its interface index in the namespace."""
    namespace: Identity
    """Identity of the namespace."""


@contextlib.contextmanager
def at(location: Location) -> Iterator[RouteSocket]:
    """Enter the namespace of a device and yield a socket there, for requests by the device's index.

    The block runs in that namespace too. Raises KernelError before the block, EBADFD when the device is gone,
    ESTALE when it is elsewhere or has another index.
    """
    with at_all([location]) as (route, (refusal,)):
        if refusal is not None:
            raise refusal
        yield route


@contextlib.contextmanager
def at_all(locations: Sequence[Location]) -> Iterator[tuple[RouteSocket, list[KernelError | None]]]:
    """Enter the namespace of several devices, which expect to be in the same one.

    Yield the socket, and for each device None or the reason why it must not be changed; the reasons are those
    of :func:`at`. Raises KernelError when none of the devices is there.
    """
    refusals: list[KernelError | None] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(_entered(locations))
        route = stack.enter_context(contextlib.closing(RouteSocket()))
        for location in locations:
            try:
                verify(location)
                refusals.append(None)
            except KernelError as error:
                refusals.append(error)
        yield route, refusals


def verify(location: Location) -> None:
    """Verify that a device is in the calling thread's namespace under its index.

    That namespace must be the expected one. Raises KernelError as :func:`at`."""
    try:
        index = index_here(location.fd, location.namespace)
    except KernelError as error:
        raise _about(location, error) from error
    if index != location.index:
        raise _elsewhere(location)


def index_here(fd: int, here: Identity) -> int:
    """Return the interface index of a device in the calling thread's namespace, whose identity is ``here``.

    Raises KernelError, EBADFD when the device is gone, ESTALE when it is in another namespace."""
    before: tuple[str, int] | None = None
    for _ in range(_ATTEMPTS):
        found = _name_and_index(fd, here)
        if found is not None and found == before:
            return found[1]
        before = found
    raise KernelError(errno.ESTALE, "the device is renamed again and again")


def _name_and_index(fd: int, here: Identity) -> tuple[str, int] | None:
    """Look a device up once; None when it was renamed meanwhile."""
    name = tunqueue.current_name(fd)
    try:
        index = socket.if_nametoindex(os.fsdecode(raw(name)))
    except OSError:
        index = 0
    if tunqueue.namespace_of(fd) != here:
        raise KernelError(errno.ESTALE, "the device is in another namespace")
    return (name, index) if index and tunqueue.current_name(fd) == name else None


@contextlib.contextmanager
def _entered(locations: Sequence[Location]) -> Iterator[None]:
    """Enter the namespace of these devices, by the first one that is there."""
    refusal: KernelError | None = None
    for location in locations:
        with contextlib.ExitStack() as stack:
            try:
                namespace = stack.enter_context(tunqueue.opened_namespace_of(location.fd))
                if namespace.identity != location.namespace:
                    raise _elsewhere(location)
                stack.enter_context(inside(namespace))
            except KernelError as error:
                refusal = refusal or _about(location, error)
                continue
            yield
            return
    raise refusal or KernelError(errno.ENODEV, "no device is given")


def _about(location: Location, error: KernelError) -> KernelError:
    if error.errno == errno.ESTALE:
        return _elsewhere(location)
    return KernelError(error.errno, str(error).replace("the device", f"{location.device}: the device", 1))


def _elsewhere(location: Location) -> KernelError:
    what = "another program moved or replaced the device just now, nothing is changed"
    return KernelError(errno.ESTALE, f"{location.device}: {what}")
