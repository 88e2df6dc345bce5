"""Events of devices in every namespace that has an id in the watch's own namespace, from one socket.

The socket keeps no namespace alive. The kernel reports events by these rules:

- Events of a namespace arrive only when it has an id: :func:`epaird.kernel.link.namespace_id`.
- When a namespace ends, its id is removed first; its devices disappear without events. So NAMESPACE_GONE
  means the loss of every device there, and the kernel may soon give the id to another namespace.
- A device that moves is DELETED in its old namespace and NEW in the other.
- The kernel drops events when the reader is slow and reports OVERRUN; the reader must then examine every
  device again.

Whoever has a namespace can cause tens of thousands of events a second, also of devices that are not the
daemon's. So events of unknown devices are skipped before they are decoded, and the events of one device
that are pending together are merged into one.
"""

from __future__ import annotations

import enum
import errno
import socket
import struct
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity
from epaird.kernel.netlink import ATTRIBUTE, HEADER, INT, attributes, set_receive_buffer
from epaird.kernel.printable import printable
from epaird.kernel.recvmmsg import ReceiveBatch

Key: TypeAlias = tuple[int | None, int]
"""A device: the id of its namespace, None for the watch's own, and its interface index there."""

RECEIVE_BYTES: Final = 1 << 24
"""Receive buffer in bytes. The kernel doubles it and charges some 2 KB per event: about 16,000 events."""
MESSAGES_PER_READ: Final = 1024
"""Limit of one read, so that the caller's event loop is not held up: 1.2 ms."""
_AT_ONCE: Final = 64
"""Messages received by one system call."""
_MESSAGE_BYTES: Final = 512
"""Received bytes of a message; the name and the MTU are among the first attributes of some 1,500 bytes."""
_NAME_BYTES: Final = ATTRIBUTE.size + abi.IFNAMSIZ
"""The name, which is the first attribute (rtnl_fill_ifinfo() in net/core/rtnetlink.c)."""
_MTU: Final = struct.Struct("=HHI")
"""The attribute IFLA_MTU: struct nlattr and the MTU in bytes."""
_UPDATE: Final = struct.Struct("=4xH10xB3xiI4x")
"""The type in struct nlmsghdr; the family, index and flags in struct ifinfomsg."""
_UPDATES: Final = (abi.RTM_NEWLINK, abi.RTM_DELLINK)


class LinkEventKind(enum.Enum):
    """The kinds of events."""

    NEW = enum.auto()
    """The device appeared or changed; the event describes its current state."""
    DELETED = enum.auto()
    """The device was deleted, or moved to another namespace."""
    NAMESPACE_GONE = enum.auto()
    """The namespace ended; its devices are gone. Only ``nsid`` is valid, and may be another namespace's
    already."""
    NAME_GONE = enum.auto()
    """A namespace that the daemon created has lost its name, which the kernel does not report. Only
    ``identity`` is valid."""
    OVERRUN = enum.auto()
    """The kernel dropped events. No other field is valid."""


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """One event of a device or a namespace."""

    kind: LinkEventKind
    """The kind, which determines the valid fields."""
    nsid: int | None = None
    """The namespace, by its id in the watch's namespace; None is the watch's own namespace."""
    index: int = 0
    """The device's interface index in that namespace."""
    name: str = ""
    """The device's name in that namespace, in the printable form."""
    up: bool = False
    """IFF_UP."""
    lower_up: bool = False
    """IFF_LOWER_UP: the device is up and has carrier."""
    mtu: int = 0
    """MTU in bytes."""
    count: int = 1
    """Messages of the kernel that were merged into this event. The other fields are the last one's."""
    was_down: bool = False
    """True when an earlier one of them reported the device as down."""
    least_mtu: int = 0
    """The least MTU in bytes that an earlier one reported; 0 if none did."""
    had_left: bool = False
    """True when an earlier one reported that the device had left this place; it may be there again."""
    identity: Identity | None = None
    """NAME_GONE only: the namespace."""

    @property
    def key(self) -> Key:
        """The device, by namespace and index."""
        return self.nsid, self.index


def merged(first: LinkEvent, last: LinkEvent) -> LinkEvent:
    """Return one event for two of the same device, NEW or DELETED, of which ``first`` is the older one."""
    new = first.kind is LinkEventKind.NEW
    mtus = (first.least_mtu, first.mtu if new else 0, last.least_mtu)
    return replace(
        last,
        count=first.count + last.count,
        was_down=first.was_down or (new and not first.up) or last.was_down,
        least_mtu=min(filter(None, mtus), default=0),
        had_left=first.had_left or not new or last.had_left,
    )


class _Everything(Container[Key]):
    def __contains__(self, each: object) -> bool:
        return True


EVERYTHING: Final[Container[Key]] = _Everything()
"""Has every device."""


class _Pending:
    """The messages of one device that are merged into one event."""

    __slots__ = ("_first", "_mtu_at", "count", "deleted", "flags", "had_left", "least_mtu", "mtu", "was_down")

    def __init__(self) -> None:
        self.count = self.mtu = self.least_mtu = self.flags = 0
        self.deleted = self.was_down = self.had_left = False
        self._first = b""
        self._mtu_at = 0
        """Where the MTU was in the last message, relative to the first attribute."""

    def add(self, kind: int, flags: int, buffer: bytearray, start: int, end: int) -> None:
        """Add a message, of which the attributes are decoded no further than needed."""
        if self.deleted:
            self.had_left = True
        elif self.count:
            self.was_down = self.was_down or not self.flags & abi.IFF_UP
            if self.mtu < self.least_mtu or not self.least_mtu:
                self.least_mtu = self.mtu
        self.count += 1
        self.flags = flags
        self.deleted = kind == abi.RTM_DELLINK
        self._first = bytes(buffer[start : start + _NAME_BYTES])
        length, attribute, mtu = _MTU.unpack_from(buffer, start + self._mtu_at)
        if attribute != abi.IFLA_MTU or length != _MTU.size:
            self._mtu_at, mtu = _find_mtu(buffer, start, end)
        self.mtu = mtu

    def event(self, key: Key) -> LinkEvent:
        """Return the event."""
        length, attribute = ATTRIBUTE.unpack_from(self._first)
        name = self._first[ATTRIBUTE.size : length - 1] if attribute == abi.IFLA_IFNAME else b""
        return LinkEvent(
            LinkEventKind.DELETED if self.deleted else LinkEventKind.NEW,
            nsid=key[0],
            index=key[1],
            name=printable(name),
            up=bool(self.flags & abi.IFF_UP),
            lower_up=bool(self.flags & abi.IFF_LOWER_UP),
            mtu=self.mtu,
            count=self.count,
            was_down=self.was_down,
            least_mtu=self.least_mtu,
            had_left=self.had_left,
        )


def _find_mtu(buffer: bytearray, start: int, end: int) -> tuple[int, int]:
    """Return the MTU's place among the attributes, relative to the first one, and the MTU; 0 if missing."""
    for attribute, first, _ in attributes(buffer, start, end):
        if attribute == abi.IFLA_MTU:
            return first - ATTRIBUTE.size - start, INT.unpack_from(buffer, first)[0]
    return 0, 0


class LinkWatch:
    """A watch on the devices of its creator's namespace and of all namespaces with an id in it."""

    def __init__(self, receive_bytes: int = RECEIVE_BYTES) -> None:
        """Raises KernelError when the socket cannot be opened."""
        self._batch = ReceiveBatch(_AT_ONCE, _MESSAGE_BYTES)
        self._devices: dict[Key, _Pending] = {}
        """Devices with messages since the last event of another kind, in order."""
        self._events: list[LinkEvent] = []
        """Events before those of these devices."""
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                abi.NETLINK_ROUTE,
            )
        except OSError as error:
            raise KernelError.about("link events", error.errno) from error
        set_receive_buffer(self._socket, receive_bytes)
        self.everywhere = self._listen_everywhere()
        """True when other namespaces are watched too, which requires CAP_NET_BROADCAST."""
        self._socket.bind((0, 1 << (abi.RTNLGRP_LINK - 1) | 1 << (abi.RTNLGRP_NSID - 1)))

    def fileno(self) -> int:
        """Return the file descriptor, which is readable when events are pending."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket. A second call does nothing."""
        self._socket.close()

    def read(self, known: Container[Key] = EVERYTHING) -> list[LinkEvent]:
        """Return the pending events of ``known`` devices and of namespaces, oldest first, without waiting.

        Events of one device are merged into one. At most MESSAGES_PER_READ messages are read at once: while
        more are pending the file descriptor stays readable. Raises KernelError.
        """
        for _ in range(MESSAGES_PER_READ // _AT_ONCE):
            try:
                count = self._batch.receive(self._socket.fileno())
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError.about("link events", error.errno) from error
                self._add(LinkEvent(LinkEventKind.OVERRUN))
                continue
            self._decode(count, known)
            if count < _AT_ONCE:
                break
        self._end_devices()
        events, self._events = self._events, []
        return events

    def _listen_everywhere(self) -> bool:
        try:
            self._socket.setsockopt(abi.SOL_NETLINK, abi.NETLINK_LISTEN_ALL_NSID, 1)
        except PermissionError:
            return False
        return True

    def _decode(self, count: int, known: Container[Key]) -> None:
        """Add the messages of a batch, of which each datagram has one."""
        buffer, devices = self._batch.buffer, self._devices
        for number, (start, end) in enumerate(self._batch.spans(count)):
            kind, family, index, flags = _UPDATE.unpack_from(buffer, start)
            nsid = self._batch.control(number, abi.SOL_NETLINK, abi.NETLINK_LISTEN_ALL_NSID)
            if kind in _UPDATES:
                key = nsid, index
                # A bridge sends DELLINK, of its own family, for a port that leaves it.
                if family == socket.AF_UNSPEC and key in known:
                    if key not in devices:
                        devices[key] = _Pending()
                    devices[key].add(kind, flags, buffer, start + _UPDATE.size, end)
            elif kind == abi.RTM_DELNSID and nsid is None:
                # The kernel also reports ids of other namespaces' own lists, which have no meaning here.
                gone = _deleted_nsid(buffer, start + HEADER.size, end)
                self._add(LinkEvent(LinkEventKind.NAMESPACE_GONE, nsid=gone))

    def _add(self, event: LinkEvent) -> None:
        """Add an event of another kind than a device's."""
        self._end_devices()
        self._events.append(event)

    def _end_devices(self) -> None:
        self._events += [pending.event(key) for key, pending in self._devices.items()]
        self._devices.clear()


def _deleted_nsid(buffer: bytearray, start: int, end: int) -> int:
    # struct rtgenmsg is one byte, aligned to four.
    for attribute, first, _ in attributes(buffer, start + 4, end):
        if attribute == abi.NETNSA_NSID:
            nsid: int = INT.unpack_from(buffer, first)[0]
            return nsid
    return abi.NETNSA_NSID_NOT_ASSIGNED
