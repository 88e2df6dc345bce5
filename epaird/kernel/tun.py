"""TAP and TUN devices: opening through python-pytun, and their offloads.

A device is created in the namespace of the calling thread and can be moved from there, which takes the kernel
16 ms. Its descriptors keep alive the namespace in which it was created, so the daemon creates a device
directly in its namespace only if the daemon created that namespace. What is requested of a device later goes
through one of its descriptors (:mod:`epaird.kernel.tunqueue`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import pytun

from epaird.kernel import abi, tunqueue
from epaird.kernel.errors import KernelError, explain
from epaird.kernel.printable import printable, raw

TUN_DEVICE: Final = "/dev/net/tun"

_IFREQ_POINTER: Final = struct.Struct("16sP16x")
_IFREQ_NAMES: Final = struct.Struct("16s16s8x")
_ETHTOOL_CMD: Final = struct.Struct("=I8xHBB28x")
"""struct ethtool_cmd: command, speed, duplex, port."""

_CHECKSUM: Final = abi.TUN_F_CSUM
_TCP: Final = abi.TUN_F_TSO4 | abi.TUN_F_TSO6
_UDP: Final = abi.TUN_F_USO4 | abi.TUN_F_USO6
_OFFLOAD_STEPS: Final = (
    # UFO is left out: since Linux 4.14 TUNSETOFFLOAD accepts it and ignores it. The kernel accepts USO4
    # and USO6 only together, and nothing without CSUM.
    _CHECKSUM | _TCP | abi.TUN_F_TSO_ECN | _UDP,
    _CHECKSUM | _TCP | abi.TUN_F_TSO_ECN,
    _CHECKSUM | _TCP,
    _CHECKSUM,
)
_OFFLOAD_NAMES: Final = (
    (_CHECKSUM, "checksum offload"),
    (_TCP, "TCP segmentation offload"),
    (abi.TUN_F_TSO_ECN, "TCP segmentation offload with ECN"),
    (_UDP, "UDP segmentation offload (Linux 6.2 or later)"),
)


class _Device(Protocol):
    """The used part of pytun.TunTapDevice. ``name`` is the name under which it was opened."""

    @property
    def name(self) -> str: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tap:
    """An open TAP or TUN device. The kernel destroys it when its last file descriptor is closed."""

    name: str
    """The name under which the device was created."""
    index: int
    """Its interface index then, in the namespace of its creator."""
    fds: tuple[int, ...]
    """One file descriptor per queue, non-blocking and close-on-exec. Each frame follows a little-endian
    virtio_net_hdr of 10 bytes."""
    offloads: int
    """The TUN_F_* in force: the kinds of super-frames that the device transmits and accepts."""
    missing: tuple[str, ...]
    """The wanted offloads that the kernel does not have, in words."""
    _devices: tuple[_Device, ...] = field(repr=False)

    @property
    def closed(self) -> bool:
        """True when its file descriptors no longer belong to it."""
        return self._devices[0].fileno() < 0

    @property
    def takes_datagrams(self) -> bool:
        """True when the device accepts UDP super-frames."""
        return self.offloads & _UDP == _UDP

    def close(self) -> None:
        """Close every queue, which takes some 18 ms. A second call does nothing."""
        for device in self._devices:
            device.close()


def open_tap(name: str, *, queues: int = 1, offload: bool = True) -> Tap:
    """Create a TAP device with ``queues`` queues, which is down, in the calling thread's namespace.

    Offloads that the kernel does not have are left out and listed in ``Tap.missing``. Raises KernelError
    and then leaves nothing behind.
    """
    return _open_device(name, abi.IFF_TAP, queues, offload)


def open_tun(name: str) -> Tap:
    """Create a TUN device, which carries IP packets and is down, in the calling thread's namespace.

    It has one queue and every offload of the kernel; otherwise as :func:`open_tap`.
    """
    return _open_device(name, abi.IFF_TUN, 1, True)


class _Adopted:
    """A descriptor that another process opened; python-pytun cannot adopt one."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor, -1 once it is closed."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def adopt(name: str, index: int, fds: tuple[int, ...], offloads: int, missing: tuple[str, ...]) -> Tap:
    """Return a Tap for a device that another process created, from its descriptors, one for each queue.

    The Tap owns the descriptors from then on; the other values are those of that process's Tap. Raises
    KernelError, EBADFD when the device is gone; the caller then still owns the descriptors.
    """
    for fd in fds:
        tunqueue.current_name(fd)
    devices = tuple(_Adopted(name, fd) for fd in fds)
    return Tap(name=name, index=index, fds=fds, offloads=offloads, missing=missing, _devices=devices)


def _open_device(name: str, kind: int, queues: int, offload: bool) -> Tap:
    wanted = raw(name)
    if not 0 < len(wanted) < abi.IFNAMSIZ or "%" in name:
        raise KernelError(
            errno.EINVAL,
            f"{name!r}: not a device name: 1 to {abi.IFNAMSIZ - 1} bytes, without '%', are allowed",
        )
    flags = kind | abi.IFF_NO_PI | abi.IFF_VNET_HDR
    if queues > 1:
        flags |= abi.IFF_MULTI_QUEUE
    devices: list[_Device] = []
    try:
        devices.append(_open(_passable(wanted), flags | abi.IFF_TUN_EXCL))
        first = devices[0].name
        devices.extend(_open(first, flags) for _ in range(queues - 1))  # attaches to the same device
        if first.encode() != wanted:
            _rename(first.encode(), wanted)
        fds = tuple(device.fileno() for device in devices)
        for fd in fds:
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)
        tunqueue.set_little_endian(fds[0])
        offloads, missing = _set_offloads(fds[0], offload)
        set_ten_gigabit(name)
        return Tap(
            name=name,
            index=socket.if_nametoindex(os.fsdecode(wanted)),
            fds=fds,
            offloads=offloads,
            missing=missing,
            _devices=tuple(devices),
        )
    except BaseException as error:
        for device in devices:
            device.close()
        if isinstance(error, OSError):
            raise KernelError.about(name, error.errno) from error
        raise


@functools.cache
def super_frame_offloads() -> int:
    """Return the TUN_F_* for which this kernel accepts written super-frames, probed once per process.

    Linux 6.6.44 and the stable releases of its time offer every offload and answer EINVAL to a written
    super-frame. The kernel checks the header before the device's state, so the probe uses a device that is
    down: it answers EIO when the header was valid. The device is created for the probe, since each such frame
    counts as one rx_dropped. Raises KernelError.
    """
    every = _OFFLOAD_STEPS[0]
    device = _open("epairprobe%d", abi.IFF_TAP | abi.IFF_NO_PI | abi.IFF_VNET_HDR | abi.IFF_TUN_EXCL)
    try:
        tunqueue.set_little_endian(device.fileno())
        if not _accepts(device.fileno(), _super_frame(socket.IPPROTO_TCP)):
            return every & _CHECKSUM
        if not _accepts(device.fileno(), _super_frame(socket.IPPROTO_UDP)):
            return every & ~_UDP
        return every
    finally:
        device.close()


def set_offload(tap: Tap, on: bool) -> Tap:
    """Set every offload of the kernel, or none; return the Tap with those that are in force then.

    Works in any namespace, while the device is up, and for all of its queues. Frames that are in its rings
    already stay as they are. Raises KernelError, EBADFD when the device is gone.
    """
    try:
        offloads, missing = _set_offloads(tap.fds[0], on)
    except KernelError:
        raise
    except OSError as error:
        raise tunqueue.failure(error) from error
    return replace(tap, offloads=offloads, missing=missing)


def set_ten_gigabit(name: str) -> None:
    """Set the reported speed of a device in the calling thread's namespace to 10 Gbit/s, full duplex.

    Older kernels report 10 Mbit/s by default. Does nothing when the driver cannot set the speed (before
    Linux 4.20).
    """
    settings = _ETHTOOL_CMD.pack(abi.ETHTOOL_SSET, abi.SPEED_10000, abi.DUPLEX_FULL, abi.PORT_TP)
    memory = ctypes.create_string_buffer(settings, len(settings))
    request = _IFREQ_POINTER.pack(raw(name), ctypes.addressof(memory))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            fcntl.ioctl(any_socket, abi.SIOCETHTOOL, request)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise KernelError.about(name, error.errno) from error


def _set_offloads(fd: int, on: bool) -> tuple[int, tuple[str, ...]]:
    """Set as many offloads as the kernel accepts, or none; return them, and the wanted ones that it does not
    have, in words."""
    wanted = _OFFLOAD_STEPS[0] if on else 0
    usable = super_frame_offloads() if on else 0
    offloads = 0
    for step in (*_OFFLOAD_STEPS, 0):
        try:
            fcntl.ioctl(fd, abi.TUNSETOFFLOAD, step & usable)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            offloads = step & usable
            break
    return offloads, tuple(words for bits, words in _OFFLOAD_NAMES if wanted & bits & ~offloads)


def _passable(name: bytes) -> str:
    """Return a name under which pytun can open a device that is to be called ``name``.

    pytun accepts no name that is not UTF-8; the kernel numbers the device then."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return "epairnew%d"


def _rename(old: bytes, new: bytes) -> None:
    """Rename a device that is down, in the calling thread's namespace. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, abi.SIOCSIFNAME, _IFREQ_NAMES.pack(old, new))


def _open(name: str, flags: int) -> _Device:
    """Open a pytun device. Raises KernelError with a remedy."""
    open_device: Callable[..., Any] = pytun.TunTapDevice
    try:
        device: _Device = open_device(name=name, flags=flags, dev=TUN_DEVICE)
    except OSError as error:
        shown = printable(name.encode())
        if error.errno in (errno.EEXIST, errno.EBUSY):
            raise KernelError(errno.EEXIST, f"{shown}: a device of this name exists already") from error
        raise KernelError(error.errno or errno.EINVAL, f"{shown}: {_open_failure(error)}") from error
    return device


def _open_failure(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{TUN_DEVICE} is missing: modprobe tun, or in a container --device {TUN_DEVICE}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"may not use {TUN_DEVICE}: needs root or CAP_NET_ADMIN, in a container --device {TUN_DEVICE}"
    if error.errno == errno.EINVAL:
        return "not a device name"
    return explain(error.errno) if error.errno else str(error)


def _accepts(fd: int, frame: bytes) -> bool:
    """Return True when a device that is down accepts a frame's virtio_net_hdr."""
    try:
        os.write(fd, frame)
    except OSError as error:
        return error.errno == errno.EIO
    return True


def _super_frame(protocol: int) -> bytes:
    """Return a correct IPv4 super-frame of three 100-byte segments, after its virtio_net_hdr."""
    payload = bytes(300)
    if protocol == socket.IPPROTO_TCP:
        gso, checksum_offset = abi.VIRTIO_NET_HDR_GSO_TCPV4, 16
        transport = struct.pack("!HHIIBBHHH", 9, 9, 0, 0, 5 << 4, 0x10, 0xFFFF, 0, 0)
    else:
        gso, checksum_offset = abi.VIRTIO_NET_HDR_GSO_UDP_L4, 6
        transport = struct.pack("!HHHH", 9, 9, 8 + len(payload), 0)
    host = socket.inet_aton("192.0.2.1")
    length = 20 + len(transport) + len(payload)
    network = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, protocol, 0, host, host)
    ethernet = struct.pack("!6s6sH", b"\2" + bytes(5), b"\2" + bytes(5), 0x0800)
    headers = ethernet + network + transport
    start = len(ethernet + network)
    needs = abi.VIRTIO_NET_HDR_F_NEEDS_CSUM
    return abi.VIRTIO_NET_HDR.pack(needs, gso, len(headers), 100, start, checksum_offset) + headers + payload
