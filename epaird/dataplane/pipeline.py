"""The steps that all kinds of forwarding share: read a burst, check it, keep frames that have to wait.

A burst is delivered at once, while it is in the cache. Nothing is done per frame that can be done per
burst.

Which interface counts a frame that is not delivered:

- the sender, as ``oerrors``, when the frame is too long or too short, the peer is down or missing, or the
  sender itself was set down while the frame waited in its ring;
- the receiver, as ``ierrors``, when the kernel refused the frame, or it was dropped while it waited in the
  queue: it had been transmitted by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from epaird.dataplane.burst import SLOT, Burst
from epaird.dataplane.coalesce import Coalescer
from epaird.dataplane.forwarding import Outlet
from epaird.dataplane.port import Port, reason
from epaird.dataplane.queue import Queue
from epaird.ipc.counters import DOWN, FLUSHED, OVERSIZE, WRITE_ERROR


class Poller(Protocol):
    """The event loop, as the data plane uses it."""

    def start_reading(self, port: Port) -> None:
        """Call ``exchange`` of the port's forwarding whenever its device is readable."""

    def stop_reading(self, port: Port) -> None:
        """Stop calling it."""

    def await_room(self, port: Port) -> None:
        """Call ``resume`` when the port's device takes frames again."""

    def await_restart(self) -> None:
        """Call ``restart`` soon."""

    def gone(self, port: Port) -> None:
        """Report that the port's device no longer exists."""

    def unknown_family(self, port: Port, version: int) -> None:
        """Report the first packet of a loopback that is neither IPv4 nor IPv6."""


class Pipeline:
    """Reads bursts and passes them to the forwarding of their port; one per worker."""

    def __init__(self, queue: Queue, poller: Poller) -> None:
        self.queue = queue
        """Frames that wait for a receiver."""
        self.burst = Burst()
        """The one burst of the worker."""
        self.coalescer = Coalescer(self.burst.arena, SLOT)
        """Joins the datagrams of that burst."""
        self.poller = poller
        """The event loop."""

    def transmit(self, source: Port) -> bool:
        """Read one burst that ``source``'s owner transmitted, and deliver it.

        True when there was no more to read. False when there may be, or when the queue has no room for its
        receiver: then nothing was read and ``source`` is on the drain list."""
        line = source.line
        if line is not None:
            return line.transmit(source)
        queue = self.queue
        room = queue.quota
        if source.receiver.backlog:
            room = queue.room(source.receiver)
            if room <= 0:
                queue.overflow(source)
                self.poller.stop_reading(source)
                return False
        if room > source.at_once:  # min() would cost 60 ns
            room = source.at_once
        return self.forward(source, room)

    def forward(self, source: Port, room: int, line: Outlet[Port] | None = None) -> bool:
        """Read up to ``room`` frames and deliver them, or drop them when ``source`` is down.

        With ``line``, that holds them. True when there was no more to read."""
        burst = self.burst
        try:
            burst.read(source.read, source.limit, room, source.examine, source.burst_bytes)
        except OSError:
            self.poller.gone(source)
            burst.exhausted = True
        if burst.verdicts:
            self._refuse(source)
        if burst.lengths:
            if source.account.words[DOWN] and source.down:  # the word first: usually no call is needed
                slots = burst.accepted()
                burst.verdicts.update(dict.fromkeys(slots, FLUSHED))
                source.account.undeliverable(FLUSHED, len(slots))
                return burst.exhausted
            if line is None:
                source.forwarding.deliver(source, burst)
            else:
                line.take(source, burst)
        return burst.exhausted

    def resume(self, target: Port) -> None:
        """Deliver the frames that wait for ``target``, until its device takes no more."""
        line = target.incoming
        if line is None:
            self._resume(target)
            return
        if target.backlog:
            line.begin()
            self._resume(target)
            line.rest()
        if not target.backlog:
            line.resume()

    def _resume(self, target: Port) -> None:
        backlog, account, multicasts = target.backlog, target.account, target.forwarding.link.multicasts
        while backlog:
            frames = (backlog[0],)
            error = target.write(backlog[0])
            if error is None:
                account.received(frames, multicasts(frames))
            elif isinstance(error, BlockingIOError):
                self.poller.await_room(target)
                return
            else:
                account.lost(reason(error))
            self.queue.taken(target)
        if self.queue.restart_due:
            self.poller.await_restart()

    def wait(self, target: Port, frames: Sequence[bytes | memoryview]) -> None:
        """Keep frames that ``target``'s device did not take, until it has room."""
        self.queue.put(target, [bytes(frame) for frame in frames])
        self.poller.await_room(target)

    def discard(self, target: Port) -> None:
        """Drop the frames that wait for ``target``: its device is gone, or takes nothing."""
        if target.backlog:
            target.account.lost(WRITE_ERROR, len(target.backlog))
            self.queue.taken(target, len(target.backlog))
        if self.queue.restart_due:
            self.poller.await_restart()

    def restart(self) -> None:
        """Let the listed ports whose receivers have drained transmit, in order."""
        queue = self.queue
        for port in queue.restarting():
            if self.transmit(port):
                queue.unlist(port)
                self.poller.start_reading(port)
        if queue.restart_due:
            self.poller.await_restart()

    def flush(self, receiver: Port) -> None:
        """Drop what waits in the rings of listed ports that are down, and take these off the drain list.

        The frames of a port that comes up meanwhile are kept."""
        for source in self.queue.listed(receiver):
            while source.down and self._may_flush(source):
                if self.forward(source, source.at_once, source.line):
                    self.queue.unlist(source)
                    self.poller.start_reading(source)
                    break

    def _may_flush(self, source: Port) -> bool:
        """Return whether a burst that turns out to be sent after ``source`` came up again can be kept."""
        line = source.line
        return self.queue.may_flush(source.receiver) if line is None else line.spare

    def refuse(self, source: Port, frame: memoryview, verdict: int) -> None:
        """Refuse a frame that was not read into the burst."""
        self.burst.hold(frame, verdict)
        self._refuse(source)

    def _refuse(self, source: Port) -> None:
        """Count the frames that were refused when they were read; answer the last one that is too long and
        can be answered."""
        verdicts = self.burst.verdicts
        source.account.refused(verdicts.values())
        if not source.pmtu:
            return
        for slot in reversed(verdicts):
            if verdicts[slot] == OVERSIZE:
                (frame,) = self.burst.frames((slot,))
                message = source.forwarding.link.too_big(frame, source.limit)
                if message is not None:
                    self._answer(source, message)
                    return

    def _answer(self, source: Port, message: bytes) -> None:
        line = source.incoming
        if line is not None:
            line.begin()
        if source.write(message) is None:
            source.account.answered()
        if line is not None:
            line.rest()
