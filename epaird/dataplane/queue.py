"""A worker's bounded queue and its drain lists, without any I/O.

The rules are those of FreeBSD's if_epair.c before it was rewritten in 2022, with two repairs:

- Frames enter the queue only while some wait for the same port: the receiver's send buffer is full.
  Otherwise they are delivered straight from the burst that they were read in (hybrid dispatch), so they stay
  in order.
- No frame is read that cannot be kept. The frames that wait for one receiver are at most its quota, a share
  of the queue's limit. A port that would transmit to a receiver whose quota is used up is marked OACTIVE and
  goes on the receiver's drain list: once, at its end, holding a reference. It is not polled any more; its
  frames wait in the kernel's ring, which takes the place of if_snd.
- When the last frame for a receiver has left the queue, the receiver has drained: its list is walked in
  order. Each port transmits, and leaves the list when its ring is empty. When frames wait for the receiver
  again, the walk of its list ends, and the rest of the list keeps its place.

A receiver is restarted when nothing waits for it, not at a mark above that: only then are frames delivered
without being copied into the queue. Its device still has a full send buffer to work on.

Two limits apply to a receiver for which frames wait: its own quota, and the limit of the queue as a whole.
None applies to a receiver for which nothing waits. One burst, at most a quota, is read for it in any case,
because most receivers take what they are given and need no room. So receivers that take nothing, however
many, never block a receiver that does. The frames in the queue are therefore at most its limit and one burst
for each receiver that takes nothing, which is a bound as well.

Frames are counted before they are read, and whatever has been read is kept. So more than a quota waits in
two cases:

- A super-frame is one frame when it is read, and many when it is segmented for a receiver without offloads.
  Such a receiver exceeds its quota by the segments that its last burst has added. They are few, because that
  burst ends with the first frame that is longer than an MTU (``Port.burst_bytes``).
- Ports that are down are flushed although their receiver has no room. What turns out to be sent after a port
  came up again is kept. Senders are flushed only while at most two quotas wait for their receiver, so one
  burst more than that is the bound.

A port with a line (:mod:`epaird.dataplane.impair.line`) transmits into its ring instead of the queue. When
the ring is full, the port is blocked and listed in the same way, and its receiver counts as drained once
there is room again.

What must never happen: a port that is marked OACTIVE and is not on a list, or on the list of a receiver that
has drained without a restart being due. The original set the flag on overflow without listing the interface,
and a sender that then paused was never restarted. Its queue was one for all interfaces of a processor, which
a single receiver could fill.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from epaird.dataplane.burst import BURST_FRAMES
from epaird.dataplane.port import Port
from epaird.ipc.counters import DRAIN_LIST, QUEUE_FRAMES, WORKER_OACTIVE
from epaird.ipc.ledger import Words

SHARES: Final = 8
"""Receivers that take nothing and have a full quota each, until the queue as a whole is full."""


class Queue:
    """The frames that a worker holds, by the port that they are for."""

    __slots__ = ("_blocked", "_drained", "_limit", "_listed", "_lists", "_words", "length", "quota")

    def __init__(self, limit: int, words: Words) -> None:
        """``limit`` is in frames, at least 1; ``words`` is the worker's slot of the ledger."""
        self.quota: int
        """Most frames that wait for one receiver."""
        self.length = 0
        """Frames in the queue."""
        self.limit = limit
        self._words = words
        self._lists: dict[Port, dict[Port, None]] = {}
        """The drain list of each receiver that has one; none is empty."""
        self._drained: dict[Port, None] = {}
        """Receivers that have a drain list and for which nothing waits."""
        self._listed = 0
        self._blocked = 0
        words[QUEUE_FRAMES] = words[DRAIN_LIST] = words[WORKER_OACTIVE] = 0

    @property
    def limit(self) -> int:
        """Frames in the queue beyond which only receivers for which nothing waits are read for."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self.quota = min(limit, max(BURST_FRAMES, limit // SHARES))

    @property
    def oactive(self) -> bool:
        """True while the output of a port is blocked."""
        return self._blocked > 0

    @property
    def drain_list(self) -> tuple[Port, ...]:
        """The ports that wait for their receivers to drain, for each receiver in the order of restarting."""
        return tuple(port for ports in self._lists.values() for port in ports)

    @property
    def restart_due(self) -> bool:
        """True when a receiver has drained and ports are waiting for that."""
        return bool(self._drained)

    def room(self, receiver: Port) -> int:
        """Return how many more frames may be read for a receiver; 0 or less for none."""
        waiting = len(receiver.backlog)
        return min(self.quota - waiting, self._limit - self.length) if waiting else self.quota

    def may_flush(self, receiver: Port) -> bool:
        """Return whether senders that are down may be read for a receiver: no more than two quotas wait."""
        return len(receiver.backlog) <= 2 * self.quota

    def listed(self, receiver: Port) -> tuple[Port, ...]:
        """Return the drain list of a receiver, in order."""
        return tuple(self._lists.get(receiver, ()))

    def put(self, port: Port, frames: list[bytes]) -> None:
        """Keep frames for a port behind those that wait already; each holds a reference."""
        count, backlog = len(frames), port.backlog
        backlog.extend(frames)
        port.refs += count
        port.account.held(sum(map(len, frames)), len(backlog))
        self.length += count
        self._words[QUEUE_FRAMES] = self.length
        self._drained.pop(port, None)

    def taken(self, port: Port, frames: int = 1) -> None:
        """Remove the oldest ``frames`` frames for a port, which were delivered or dropped."""
        backlog = port.backlog
        octets = len(backlog.popleft())
        for _ in range(frames - 1):
            octets += len(backlog.popleft())
        port.refs -= frames
        port.account.held(-octets, len(backlog))
        self.length -= frames
        self._words[QUEUE_FRAMES] = self.length
        if not backlog and port in self._lists:
            self._drained[port] = None

    def overflow(self, port: Port) -> None:
        """Block the output of a port that would transmit to a receiver without room, or into a line without
        room, and list it."""
        self._block(port, True)
        self._drained.pop(port.receiver, None)
        if not port.listed:
            port.mark_listed(True)
            self._lists.setdefault(port.receiver, {})[port] = None
            self._count(1)

    def drained(self, receiver: Port) -> None:
        """Have the ports on a receiver's drain list restarted: a line for it has room again."""
        if receiver in self._lists:
            self._drained[receiver] = None

    def unlist(self, port: Port) -> None:
        """Take a port off its drain list: its ring is empty, or its cable is being detached."""
        if port.listed:
            self._block(port, False)
            port.mark_listed(False)
            ports = self._lists[port.receiver]
            del ports[port]
            if not ports:
                del self._lists[port.receiver]
                self._drained.pop(port.receiver, None)
            self._count(-1)

    def restarting(self) -> Iterator[Port]:
        """Yield the listed ports of each receiver that has drained, in order and with the flag cleared, for
        the caller to let each transmit.

        To be called when a restart is due. A receiver's turn ends when frames wait for it again."""
        for receiver in tuple(self._drained):
            for port in self.listed(receiver):
                if receiver.backlog and port.line is None:
                    break
                if port.listed:
                    self._block(port, False)
                    yield port

    def _block(self, port: Port, oactive: bool) -> None:
        if port.oactive != oactive:
            port.mark_oactive(oactive)
            self._blocked += 1 if oactive else -1
            self._words[WORKER_OACTIVE] = self._blocked > 0

    def _count(self, change: int) -> None:
        self._listed += change
        self._words[DRAIN_LIST] = self._listed
