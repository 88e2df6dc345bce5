"""What happens to devices in every namespace that has an id here, from one socket at home.

The socket keeps no namespace alive.  What the kernel tells, and what not:

- A namespace must have an id here, or its events do not come: :func:`epaird.kernel.link.namespace_id`.
- When a namespace ends, its id goes first; its devices vanish without an event of their own.  So
  NAMESPACE_GONE stands for the loss of everything there, and the id may soon mean another namespace.
- A device that moves is DELETED where it was, with ``moved`` set, and NEW where it comes to.
- Events are lost when nobody reads for long: OVERRUN says so, and the reader must look at everything
  afresh.
"""

from __future__ import annotations

import enum
import errno
import socket
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.netlink import ATTRIBUTE, BUFFER_BYTES, INT, LINK, attributes, messages, receive_buffer

RECEIVE_BYTES: Final = 1 << 24
"""Room for events not yet read.  The kernel doubles it and counts some 2 KB for one: about 16,000 of them."""
_EVENTS_AT_ONCE: Final = 256
"""A bound on one read, for the sake of what else the caller's loop has to do."""
_NUMBERS: Final = frozenset((abi.IFLA_MTU, abi.IFLA_NEW_NETNSID, abi.IFLA_NEW_IFINDEX))
_NSID_SPACE: Final = socket.CMSG_SPACE(INT.size)


class Kind(enum.Enum):
    """What an event tells."""

    NEW = enum.auto()
    """The device exists, and is as the event says: it is new here, or something of it changed."""
    DELETED = enum.auto()
    """The device is no longer here."""
    NAMESPACE_GONE = enum.auto()
    """The namespace ended, or lost its id; its devices are gone.  Only ``nsid`` is meant."""
    OVERRUN = enum.auto()
    """Events were lost here.  No other field is meant."""


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """One thing that happened to one device, or to a namespace."""

    kind: Kind
    nsid: int | None = None
    """The namespace it happened in, by its id here; None is the namespace at home."""
    index: int = 0
    """The device's interface index in that namespace."""
    name: str = ""
    """Its name there."""
    up: bool = False
    """IFF_UP."""
    lower_up: bool = False
    """IFF_LOWER_UP: it has carrier, and is up."""
    mtu: int = 0
    """Bytes."""
    moved: bool = False
    """DELETED only: it went to another namespace, and lives on there."""
    new_nsid: int | None = None
    """Where it went, of a device that left home; ids that other namespaces use mean nothing here."""
    new_index: int | None = None
    """Its interface index where it went."""


class LinkWatch:
    """Watches the devices of the namespace it was made in, and of all those with an id there."""

    def __init__(self, receive_bytes: int = RECEIVE_BYTES) -> None:
        """Raises KernelError when there can be no such socket."""
        self._buffer = bytearray(BUFFER_BYTES)
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                abi.NETLINK_ROUTE,
            )
        except OSError as error:
            raise KernelError.about("link events", error.errno) from error
        receive_buffer(self._socket, receive_bytes)
        self.everywhere = self._listen_everywhere()
        """Whether other namespaces are watched too: the kernel wants CAP_NET_BROADCAST for it."""
        self._socket.bind((0, 1 << (abi.RTNLGRP_LINK - 1) | 1 << (abi.RTNLGRP_NSID - 1)))

    def fileno(self) -> int:
        """The file descriptor, readable when there are events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def read(self) -> list[LinkEvent]:
        """The events that are there, oldest first; never waits.

        At most some hundreds at once: when there are more the file descriptor stays readable.
        Raises KernelError.
        """
        events: list[LinkEvent] = []
        while len(events) < _EVENTS_AT_ONCE:
            try:
                size, ancillary, _, _ = self._socket.recvmsg_into([self._buffer], _NSID_SPACE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError.about("link events", error.errno) from error
                events.append(LinkEvent(Kind.OVERRUN))
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
                # Other namespaces' own lists of ids are told too; they mean nothing here.
                events.append(LinkEvent(Kind.NAMESPACE_GONE, nsid=self._deleted_nsid(start, end)))
        return events

    def _link(self, kind: int, nsid: int | None, start: int, end: int) -> LinkEvent | None:
        family, _, index, flags, _ = LINK.unpack_from(self._buffer, start)
        if family != socket.AF_UNSPEC:
            return None  # a bridge says DELLINK of a port that leaves it
        name = ""
        numbers: dict[int, int] = {}
        # By hand and no further than needed: a thousand pairs that come up are 16,000 of these.
        start, buffer = start + LINK.size, self._buffer
        while start + ATTRIBUTE.size <= end:
            length, attribute = ATTRIBUTE.unpack_from(buffer, start)
            if length < ATTRIBUTE.size:
                break
            if attribute == abi.IFLA_IFNAME:
                name = buffer[start + 4 : start + length - 1].decode("utf-8", "surrogateescape")
            elif attribute in _NUMBERS:
                numbers[attribute] = INT.unpack_from(buffer, start + 4)[0]
                if attribute == abi.IFLA_MTU and kind == abi.RTM_NEWLINK:
                    break  # the name came before it, and a move is told by DELLINK
            start += (length + 3) & ~3
        moved = abi.IFLA_NEW_NETNSID in numbers
        return LinkEvent(
            Kind.NEW if kind == abi.RTM_NEWLINK else Kind.DELETED,
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
