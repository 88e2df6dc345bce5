"""Queues of TAP and TUN devices: ioctls on the file descriptors of open devices.

Such an ioctl acts on the device in any namespace and under any name; python-pytun's own properties do not, so
nothing uses them. The messages contain "the device"; the caller knows its name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
from collections.abc import Iterator
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity, Namespace, of_descriptor
from epaird.kernel.printable import printable

_IFREQ_FLAGS: Final = struct.Struct("16sH22x")
_IFREQ_HARDWARE: Final = struct.Struct("18x6s16x")
_INT: Final = struct.Struct("i")


def current_name(fd: int) -> str:
    """Return the device's current name in the printable form, in any namespace.

    Raises KernelError, EBADFD when it is gone."""
    request = _ioctl(fd, abi.TUNGETIFF, bytes(_IFREQ_FLAGS.size))
    name: bytes = _IFREQ_FLAGS.unpack(request)[0]
    return printable(name.rstrip(b"\0"))


def is_queue(fd: int, *, ethernet: bool | None = None) -> bool:
    """Return whether a descriptor from another process is a queue of a device as :mod:`epaird.kernel.tun`
    opens them, or of one that is gone.

    ``ethernet`` is True for a TAP, False for a TUN device, and None for either."""
    try:
        if os.fstat(fd).st_rdev != os.makedev(abi.MISC_MAJOR, abi.TUN_MINOR):
            return False
        _, flags = _IFREQ_FLAGS.unpack(fcntl.ioctl(fd, abi.TUNGETIFF, bytes(_IFREQ_FLAGS.size)))
    except OSError as error:
        return error.errno == errno.EBADFD
    wanted = {True: abi.IFF_TAP, False: abi.IFF_TUN, None: flags & (abi.IFF_TAP | abi.IFF_TUN)}[ethernet]
    form = abi.IFF_NO_PI | abi.IFF_VNET_HDR
    return bool(flags & wanted) and flags & form == form


def namespace_of(fd: int) -> Identity:
    """Return the identity of the device's namespace. Raises KernelError, EBADFD when it is gone."""
    with opened_namespace_of(fd) as namespace:
        return namespace.identity


@contextlib.contextmanager
def opened_namespace_of(fd: int) -> Iterator[Namespace]:
    """Open the device's namespace; its handle keeps it alive until the block ends.

    Raises KernelError, EBADFD when the device is gone or its namespace is ending.
    """
    try:
        namespace: int = fcntl.ioctl(fd, abi.TUNGETDEVNETNS, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no reference can be taken to a namespace that is ending
            raise KernelError(errno.EBADFD, "the device is gone") from error
        raise failure(error) from error
    try:
        yield of_descriptor(namespace)
    finally:
        os.close(namespace)


def set_little_endian(fd: int) -> None:
    """Have the virtio_net_hdr of each frame little-endian on every machine."""
    _ioctl(fd, abi.TUNSETVNETLE, _INT.pack(1))


def set_sndbuf(fd: int, size: int) -> None:
    """Limit the bytes delivered and not yet consumed; write() returns EAGAIN above the limit."""
    _ioctl(fd, abi.TUNSETSNDBUF, _INT.pack(size))


def set_carrier(fd: int, on: bool) -> None:
    """Set the carrier. Works while the device is down, and in any namespace."""
    _ioctl(fd, abi.TUNSETCARRIER, _INT.pack(on))


def is_up(fd: int) -> bool:
    """Return IFF_UP, by poll(), in any namespace. Also False while delivered frames fill its sndbuf."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))


def hardware_address(fd: int) -> str:
    """Return the device's MAC address, ``02:5d:11:22:33:0a``."""
    request = _ioctl(fd, abi.SIOCGIFHWADDR, bytes(_IFREQ_HARDWARE.size))
    address: bytes = _IFREQ_HARDWARE.unpack(request)[0]
    return address.hex(":")


def failure(error: OSError) -> KernelError:
    """Return the error for a request to a descriptor that the kernel refused."""
    if error.errno == errno.EBADFD:
        return KernelError(errno.EBADFD, "the device is gone")
    return KernelError.about("the device", error.errno)


def _ioctl(fd: int, request: int, argument: bytes) -> bytes:
    try:
        return fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise failure(error) from error
