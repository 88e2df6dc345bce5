"""An interface as its worker sees it: a descriptor, a slot of counters, what is on its way to it."""

from __future__ import annotations

import io
import os
from array import array
from collections import deque
from collections.abc import Callable
from typing import Protocol

from epaird.ipc.counters import HELD_BYTES, IN_FLIGHT, LISTED, OACTIVE
from epaird.ipc.ledger import SLOT_BYTES, Words


class Loop(Protocol):
    """What takes the forwarder's place for a loopback."""

    def transmit(self, interface: Interface) -> bool:
        """As :meth:`epaird.dataplane.path.Path.transmit`."""

    def resume(self, interface: Interface) -> None:
        """As :meth:`epaird.dataplane.path.Path.resume`."""


class Interface:
    """One half of a cable (with several queues: one queue of it).

    ``refs`` is the reference count of FreeBSD's epair: 1 for being there, 1 for every frame in
    flight to it, 1 while it is on the drain list.  A cable may be let go when both its halves
    are down to 1.
    """

    __slots__ = (
        "_listed",
        "_oactive",
        "at_once",
        "attached",
        "backlog",
        "coalesce",
        "fd",
        "limit",
        "loop",
        "name",
        "peer",
        "read",
        "refs",
        "words",
    )

    peer: Interface

    def __init__(self, name: str, fd: int, words: Words) -> None:
        self.name = name
        self.fd = fd
        self.read: Callable[[memoryview], int | None] = io.FileIO(fd, "r+", closefd=False).readinto
        """Fills a buffer with one frame and returns its length, or None when there is none."""
        self.words = words
        self.limit = 0
        """Bytes, virtio_net_hdr included, up to which a frame read here fits both halves' MTU."""
        self.at_once = 1
        """Frames of that length that make a burst."""
        self.coalesce = False
        """Datagrams read here may leave joined."""
        self.backlog: deque[bytes] = deque()
        """Frames that wait to be delivered here, header and all, oldest first."""
        self.loop: Loop | None = None
        """What forwards it, where it is a loopback and no half of a cable."""
        self.refs = 1
        self.attached = True
        """False once its cable is being let go: it is not read any more."""
        self._listed = False
        self._oactive = False
        words[IN_FLIGHT] = words[LISTED] = words[OACTIVE] = words[HELD_BYTES] = 0

    def __repr__(self) -> str:
        return f"<Interface {self.name} refs={self.refs}>"

    @property
    def listed(self) -> bool:
        """On the drain list, which holds a reference."""
        return self._listed

    @listed.setter
    def listed(self, listed: bool) -> None:
        self.refs += listed - self._listed
        self._listed = listed
        self.words[LISTED] = listed

    @property
    def oactive(self) -> bool:
        """Output is blocked."""
        return self._oactive

    @oactive.setter
    def oactive(self, oactive: bool) -> None:
        self._oactive = oactive
        self.words[OACTIVE] = oactive


def join(a: Interface, b: Interface) -> None:
    """Make two interfaces each other's peer."""
    a.peer = b
    b.peer = a


def nobody() -> Interface:
    """What an unplugged half has for a peer: nothing can be delivered there, and nothing comes from there."""
    unwritable = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    interface = Interface("nobody", unwritable, memoryview(array("Q", bytes(SLOT_BYTES))))
    interface.attached = False
    return interface
