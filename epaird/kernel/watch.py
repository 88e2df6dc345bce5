"""Events of devices in every namespace that has an id in the watch's own namespace, from one socket.

The socket keeps no namespace alive. The kernel reports events by these rules:

- Events of a namespace arrive only when it has an id: :func:`epaird.kernel.link.namespace_id`.
- When a namespace ends, its id is removed first; its devices disappear without events. So NAMESPACE_GONE
  means the loss of every device there, and the kernel may soon give the id to another namespace.
- A device that moves is DELETED in its old namespace, with ``moved`` set, and NEW in the other.
- The kernel drops events when the reader is slow and reports OVERRUN; the reader must then examine every
  device again.
"""

from __future__ import annotations

import enum
import errno
import socket
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity
from epaird.kernel.netlink import ATTRIBUTE, BUFFER_BYTES, INT, LINK, attributes, messages, set_receive_buffer
from epaird.kernel.printable import printable

RECEIVE_BYTES: Final = 1 << 24
"""Receive buffer in bytes. The kernel doubles it and charges some 2 KB per event: about 16,000 events."""
_EVENTS_PER_READ: Final = 256
"""Limit of one read, so that the caller's event loop is not held up."""
_NUMBERS: Final = frozenset((abi.IFLA_MTU, abi.IFLA_NEW_NETNSID, abi.IFLA_NEW_IFINDEX))
_NSID_SPACE: Final = socket.CMSG_SPACE(INT.size)


class LinkEventKind(enum.Enum):
    """The kinds of events."""

    NEW = enum.auto()
    """The device appeared or changed; the event describes its current state."""
    DELETED = enum.auto()
    """The device was deleted or moved to another namespace."""
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
    moved: bool = False
    """DELETED only: True when the device continues to exist in another namespace."""
    new_nsid: int | None = None
    """The new namespace of a device that left the watch's own. None for moves between others, whose ids have
    no meaning here."""
    new_index: int | None = None
    """The interface index in the new namespace."""
    identity: Identity | None = None
    """NAME_GONE only: the namespace."""


class LinkWatch:
    """A watch on the devices of its creator's namespace and of all namespaces with an id in it."""

    def __init__(self, receive_bytes: int = RECEIVE_BYTES) -> None:
        """Raises KernelError when the socket cannot be opened."""
        self._buffer = bytearray(BUFFER_BYTES)
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

    def read(self) -> list[LinkEvent]:
        """Return the pending events, oldest first, without waiting.

        At most some hundreds at once: while more are pending the file descriptor stays readable. Raises
        KernelError.
        """
        events: list[LinkEvent] = []
        while len(events) < _EVENTS_PER_READ:
            try:
                size, ancillary, _, _ = self._socket.recvmsg_into([self._buffer], _NSID_SPACE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError.about("link events", error.errno) from error
                events.append(LinkEvent(LinkEventKind.OVERRUN))
                continue
            events.extend(self._events(size, _nsid(ancillary)))
        return events

    def _listen_everywhere(self) -> bool:
        try:
            self._socket.setsockopt(abi.SOL_NETLINK, abi.NETLINK_LISTEN_ALL_NSID, 1)
        except PermissionError:
            return False
        return True

    def _events(self, size: int, nsid: int | None) -> list[LinkEvent]:
        events = []
        for kind, _, _, start, end in messages(self._buffer, size):
            if kind in (abi.RTM_NEWLINK, abi.RTM_DELLINK):
                event = self._link(kind, nsid, start, end)
                if event is not None:
                    events.append(event)
            elif kind == abi.RTM_DELNSID and nsid is None:
                # The kernel also reports ids of other namespaces' own lists, which have no meaning here.
                events.append(LinkEvent(LinkEventKind.NAMESPACE_GONE, nsid=self._deleted_nsid(start, end)))
        return events

    def _link(self, kind: int, nsid: int | None, start: int, end: int) -> LinkEvent | None:
        family, _, index, flags, _ = LINK.unpack_from(self._buffer, start)
        if family != socket.AF_UNSPEC:
            return None  # a bridge sends DELLINK for a port that leaves it
        name = ""
        numbers: dict[int, int] = {}
        # Decoded inline and no further than needed: a thousand pairs that come up cause 16,000 messages.
        start, buffer = start + LINK.size, self._buffer
        while start + ATTRIBUTE.size <= end:
            length, attribute = ATTRIBUTE.unpack_from(buffer, start)
            if length < ATTRIBUTE.size:
                break
            if attribute == abi.IFLA_IFNAME:
                name = printable(bytes(buffer[start + 4 : start + length - 1]))
            elif attribute in _NUMBERS:
                numbers[attribute] = INT.unpack_from(buffer, start + 4)[0]
                if attribute == abi.IFLA_MTU and kind == abi.RTM_NEWLINK:
                    break  # the name precedes the MTU, and only a DELLINK reports a move
            start += (length + 3) & ~3
        moved = abi.IFLA_NEW_NETNSID in numbers
        return LinkEvent(
            LinkEventKind.NEW if kind == abi.RTM_NEWLINK else LinkEventKind.DELETED,
            nsid=nsid,
            index=index,
            name=name,
            up=bool(flags & abi.IFF_UP),
            lower_up=bool(flags & abi.IFF_LOWER_UP),
            mtu=numbers.get(abi.IFLA_MTU, 0),
            moved=moved,
            new_nsid=numbers[abi.IFLA_NEW_NETNSID] if moved and nsid is None else None,
            new_index=numbers.get(abi.IFLA_NEW_IFINDEX),
        )

    def _deleted_nsid(self, start: int, end: int) -> int:
        # struct rtgenmsg is one byte, aligned to four.
        for attribute, first, _ in attributes(self._buffer, start + 4, end):
            if attribute == abi.NETNSA_NSID:
                nsid: int = INT.unpack_from(self._buffer, first)[0]
                return nsid
        return abi.NETNSA_NSID_NOT_ASSIGNED


def _nsid(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if (level, kind) == (abi.SOL_NETLINK, abi.NETLINK_LISTEN_ALL_NSID):
            nsid: int = INT.unpack_from(data)[0]
            return nsid
    return None
