"""A worker's bounded queue and its drain list, without any I/O.

The rules, which are those of FreeBSD's if_epair.c with one repair:

- Frames enter the queue only while something waits: the receiver's send buffer is full.  Otherwise
  they are delivered straight from the burst they were read in (hybrid dispatch), so order holds.
- No frame is read that cannot be kept.  Who wants to send while the queue is full gets OACTIVE, as
  does the queue, and goes on the drain list: once, at its end, holding a reference.  It is not polled
  any more; its frames wait in the kernel's ring, which plays if_snd.
- When the last frame has left the queue it has drained: the flags are cleared, and the list is walked in
  order.  Each interface sends; whose ring is empty leaves the list; when the queue fills
  again the walk ends there, and the rest keeps its place.

What must never happen: an interface with OACTIVE that is not on the list.  The original set the flag on
overflow without listing, and a sender that then paused was never restarted.
"""

from __future__ import annotations

from collections.abc import Iterator

from epaird.dataplane.interface import Interface
from epaird.ipc.counters import DRAIN_LIST, HELD_BYTES, IN_FLIGHT, QUEUE_FRAMES, WORKER_OACTIVE
from epaird.ipc.ledger import Words


class Queue:
    """The frames a worker holds, by the interface they are for, under one limit."""

    __slots__ = ("_drain_list", "_oactive", "_words", "length", "limit")

    def __init__(self, limit: int, words: Words) -> None:
        """``limit`` is in frames, at least 1; ``words`` is the worker's slot of the ledger."""
        self.limit = limit
        self.length = 0
        self._words = words
        self._drain_list: dict[Interface, None] = {}
        self._oactive = False
        words[QUEUE_FRAMES] = words[DRAIN_LIST] = words[WORKER_OACTIVE] = 0

    @property
    def oactive(self) -> bool:
        """The queue has filled and has not drained since."""
        return self._oactive

    @property
    def drain_list(self) -> tuple[Interface, ...]:
        """Who waits for the queue to drain, in the order of restarting."""
        return tuple(self._drain_list)

    @property
    def restart_due(self) -> bool:
        """The queue has drained and somebody is waiting for that."""
        return not self.length and bool(self._drain_list)

    def put(self, interface: Interface, frames: list[bytes]) -> None:
        """Keep frames for an interface, behind those already waiting; each holds a reference."""
        interface.backlog.extend(frames)
        interface.words[HELD_BYTES] += sum(map(len, frames))
        interface.refs += len(frames)
        self._changed(interface, len(frames))

    def taken(self, interface: Interface, frames: int = 1) -> None:
        """The oldest ``frames`` frames for an interface have met their fate."""
        for _ in range(frames):
            interface.words[HELD_BYTES] -= len(interface.backlog.popleft())
        interface.refs -= frames
        self._changed(interface, -frames)
        self._settle()

    def overflow(self, interface: Interface) -> None:
        """An interface wants to send and the queue is full: block its output, and list it."""
        self._block(True)
        interface.oactive = True
        if not interface.listed:
            interface.listed = True
            self._drain_list[interface] = None
            self._words[DRAIN_LIST] = len(self._drain_list)

    def unlist(self, interface: Interface) -> None:
        """Take an interface off the drain list: its ring is empty, or it is going away."""
        if interface.listed:
            interface.listed = False
            interface.oactive = False
            del self._drain_list[interface]
            self._words[DRAIN_LIST] = len(self._drain_list)
            self._settle()

    def restarting(self) -> Iterator[Interface]:
        """The drain list in order, flags cleared, for the caller to let each send; to be called
        when a restart is due.  Ends where the queue has filled again."""
        self._block(False)
        for interface in self.drain_list:
            if not interface.listed:
                continue
            if self.length >= self.limit:
                self._block(True)
                return
            interface.oactive = False
            yield interface

    def _changed(self, interface: Interface, frames: int) -> None:
        self.length += frames
        self._words[QUEUE_FRAMES] = self.length
        interface.words[IN_FLIGHT] = len(interface.backlog)

    def _settle(self) -> None:
        """Nothing waits and nobody: no restart will come to clear the flag."""
        if self._oactive and not self.length and not self._drain_list:
            self._block(False)

    def _block(self, oactive: bool) -> None:
        self._oactive = oactive
        self._words[WORKER_OACTIVE] = oactive
