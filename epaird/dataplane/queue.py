"""A worker's bounded queue and its drain list, without any I/O.

The rules are those of FreeBSD's if_epair.c before it was rewritten in 2022, with one repair:

- Frames enter the queue only while some wait for the same port: the receiver's send buffer is full.
  Otherwise they are delivered straight from the burst that they were read in (hybrid dispatch), so they stay
  in order.
- No frame is read that cannot be kept. A port that would transmit while the queue is full is marked OACTIVE,
  as is the queue, and goes on the drain list: once, at its end, holding a reference. It is not polled any
  more; its frames wait in the kernel's ring, which takes the place of if_snd.
- When the last frame has left the queue, it has drained: the flags are cleared and the list is walked in
  order. Each port transmits, and leaves the list when its ring is empty. When the queue fills again, the walk
  ends, and the rest of the list keeps its place.

What must never happen: a port that is marked OACTIVE and is not on the list. The original set the flag on
overflow without listing the interface, and a sender that then paused was never restarted.
"""

from __future__ import annotations

from collections.abc import Iterator

from epaird.dataplane.port import Port
from epaird.ipc.counters import DRAIN_LIST, QUEUE_FRAMES, WORKER_OACTIVE
from epaird.ipc.ledger import Words


class Queue:
    """The frames that a worker holds, by the port they are for, under one limit."""

    __slots__ = ("_drain_list", "_oactive", "_words", "length", "limit")

    def __init__(self, limit: int, words: Words) -> None:
        """``limit`` is in frames, at least 1; ``words`` is the worker's slot of the ledger."""
        self.limit = limit
        """Most frames in the queue."""
        self.length = 0
        """Frames in the queue."""
        self._words = words
        self._drain_list: dict[Port, None] = {}
        self._oactive = False
        words[QUEUE_FRAMES] = words[DRAIN_LIST] = words[WORKER_OACTIVE] = 0

    @property
    def oactive(self) -> bool:
        """True when the queue has filled and has not drained since."""
        return self._oactive

    @property
    def drain_list(self) -> tuple[Port, ...]:
        """The ports that wait for the queue to drain, in the order of restarting."""
        return tuple(self._drain_list)

    @property
    def restart_due(self) -> bool:
        """True when the queue has drained and ports are waiting for that."""
        return not self.length and bool(self._drain_list)

    def put(self, port: Port, frames: list[bytes]) -> None:
        """Keep frames for a port behind those that wait already; each holds a reference."""
        count, backlog = len(frames), port.backlog
        backlog.extend(frames)
        port.refs += count
        port.account.held(sum(map(len, frames)), len(backlog))
        self.length += count
        self._words[QUEUE_FRAMES] = self.length

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
        self._settle()

    def overflow(self, port: Port) -> None:
        """Block the output of a port that would transmit while the queue is full, and list it."""
        self._block(True)
        port.mark_oactive(True)
        if not port.listed:
            port.mark_listed(True)
            self._drain_list[port] = None
            self._words[DRAIN_LIST] = len(self._drain_list)

    def unlist(self, port: Port) -> None:
        """Take a port off the drain list: its ring is empty, or its cable is being detached."""
        if port.listed:
            port.mark_listed(False)
            port.mark_oactive(False)
            del self._drain_list[port]
            self._words[DRAIN_LIST] = len(self._drain_list)
            self._settle()

    def restarting(self) -> Iterator[Port]:
        """Yield the ports of the drain list in order, flags cleared, for the caller to let each transmit.

        To be called when a restart is due. Ends when the queue has filled again."""
        self._block(False)
        for port in self.drain_list:
            if not port.listed:
                continue
            if self.length >= self.limit:
                self._block(True)
                return
            port.mark_oactive(False)
            yield port

    def _settle(self) -> None:
        """Clear the flag when no frame and no port waits: no restart will come to clear it."""
        if self._oactive and not self.length and not self._drain_list:
            self._block(False)

    def _block(self, oactive: bool) -> None:
        self._oactive = oactive
        self._words[WORKER_OACTIVE] = oactive
