"""A port: an interface as its worker sees it."""

from __future__ import annotations

import errno
import io
import os
import select
from collections import deque
from collections.abc import Callable
from typing import Final

from epaird.dataplane.account import Account
from epaird.dataplane.burst import BURST_BYTES, Objection
from epaird.dataplane.forwarding import Forwarding, Outlet
from epaird.dataplane.frames import objection
from epaird.ipc.counters import DOWN, PEER_DOWN, WRITE_ERROR
from epaird.ipc.ledger import Words

DOWN_ERRORS: Final = (errno.EIO, errno.EBADFD, errno.EBADF)
"""Errors of write() when the device is down or gone."""


class Port:
    """One interface or, where it has several queues, one queue of it.

    ``refs`` is the reference count that FreeBSD's epair had until 2022: 1 while it is attached, 1 for every
    frame that waits for it, 1 while it is on the drain list. A cable may be closed when all its ports are
    down to 1. A burst needs no references: nothing else runs between its read and the end of its delivery."""

    __slots__ = (
        "account",
        "at_once",
        "attached",
        "backlog",
        "burst_bytes",
        "coalesce",
        "examine",
        "fd",
        "forwarding",
        "incoming",
        "limit",
        "line",
        "listed",
        "name",
        "oactive",
        "offload",
        "pmtu",
        "read",
        "receiver",
        "refs",
    )

    forwarding: Forwarding[Port]
    """Delivers the frames that its owner transmits; set by the forwarding itself."""

    def __init__(self, name: str, fd: int, words: Words) -> None:
        """``fd`` is a device whose frames start with a virtio_net_hdr, ``words`` its slot of the ledger."""
        self.name = name
        self.fd = fd
        self.read: Callable[[memoryview], int | None] = io.FileIO(fd, "r+", closefd=False).readinto
        """Fills a buffer with one frame and returns its length, or None when there is none."""
        self.account = Account(words)
        """Its counters."""
        self.limit = 0
        """Bytes, virtio_net_hdr included, up to which a frame read here fits every MTU of the cable."""
        self.examine: Objection = objection
        """Decides about longer frames, and about runts; set by the forwarding itself."""
        self.at_once = 1
        """Frames of that length that make a burst."""
        self.burst_bytes = BURST_BYTES
        """A burst ends when its longer frames exceed this: 0 when each of them is to be segmented."""
        self.coalesce = False
        """True when datagrams read here may be joined."""
        self.offload = True
        """True when its owner takes super-frames and unfinished checksums. False: frames are delivered as on
        a wire."""
        self.pmtu = True
        """True when its owner gets ICMP messages about packets that are too long for the peer."""
        self.line: Outlet[Port] | None = None
        """The line that holds what is read here, if that is impaired."""
        self.incoming: Outlet[Port] | None = None
        """The line that delivers here, if its sender is impaired."""
        self.backlog: deque[bytes] = deque()
        """Frames that wait to be delivered here, virtio_net_hdr included, oldest first."""
        self.refs = 1
        """References."""
        self.receiver: Port = self
        """The port that gets what its owner transmits; set by the forwarding. A port that nothing is
        delivered to from here is its own."""
        self.attached = True
        """False once its cable is being detached, or its device is gone: it is not read any more."""
        self.listed = False
        """True while it is on the drain list, which holds a reference; set by :meth:`mark_listed`."""
        self.oactive = False
        """True while its output is blocked; set by :meth:`mark_oactive`."""

    def __repr__(self) -> str:
        return f"<Port {self.name} refs={self.refs}>"

    def mark_listed(self, listed: bool) -> None:
        """Record that it is on the drain list, or no longer."""
        self.refs += listed - self.listed
        self.listed = listed
        self.account.mark_listed(listed)

    def mark_oactive(self, oactive: bool) -> None:
        """Record that its output is blocked, or no longer."""
        self.oactive = oactive
        self.account.mark_oactive(oactive)

    @property
    def down(self) -> bool:
        """True when the device is recorded as down and still is: frames read before were sent before that.

        The record is read again at the end: while it is there, poll() reports IFF_UP and nothing else
        (:mod:`epaird.control.interfaces.flags`)."""
        words = self.account.words
        if not words[DOWN]:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        writable = any(events & select.POLLOUT for _, events in poll.poll(0))
        return not writable and bool(words[DOWN])

    def write(self, frame: bytes | memoryview) -> OSError | None:
        """Deliver one frame; return the error of the kernel, or None."""
        try:
            os.write(self.fd, frame)
        except OSError as error:
            return error
        return None


def reason(error: OSError) -> int:
    """Return the reason to count for a frame that a device refused: PEER_DOWN or WRITE_ERROR."""
    return PEER_DOWN if error.errno in DOWN_ERRORS else WRITE_ERROR
