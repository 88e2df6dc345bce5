"""The cross-connect: frames read from one of two ports are delivered to the other.

On the usual path a frame costs a read(), two comparisons, a slice and a write(), and less where datagrams
are joined.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from epaird.dataplane.account import Account, crossed
from epaird.dataplane.burst import Burst
from epaird.dataplane.coalesce import Delivery
from epaird.dataplane.frames import HEADER
from epaird.dataplane.links import ETHERNET_LINK
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import DOWN_ERRORS, Port, reason
from epaird.dataplane.segmenting import segment
from epaird.dataplane.superframe import NotSegmentable
from epaird.ipc.counters import PEER_DOWN, WRITE_ERROR

ANSWERS: Final = 8
"""Bursts that the two ports of a cable may exchange before the next cable's turn."""


class CrossConnect:
    """Forwards between two ports."""

    link = ETHERNET_LINK

    def __init__(self, pipeline: Pipeline, ports: Sequence[Port]) -> None:
        """Become the forwarding of two ports."""
        self._pipeline = pipeline
        self._a, self._b = ports
        for port in ports:
            port.forwarding = self
            port.examine = self.link.objection
            port.receiver = self.peer(port)

    def peer(self, port: Port) -> Port:
        """Return the other port."""
        return self._b if port is self._a else self._a

    def exchange(self, source: Port) -> bool:
        """Transmit from ``source``, then answers from its peer, and so on for a while.

        A receiver's acknowledgements, and what they let its sender send, are in their rings as soon as
        write() has returned: the kernel makes them in that call. Reading them at once saves a turn of the
        loop for each. True when there was no more to read."""
        pipeline = self._pipeline
        transmit, burst = pipeline.transmit, pipeline.burst
        exhausted = transmit(source)
        for _ in range(ANSWERS):
            source = self._b if source is self._a else self._a
            if not (exhausted and burst.lengths and source.attached) or source.listed:
                break
            exhausted = transmit(source)
        return exhausted

    def deliver(self, source: Port, burst: Burst) -> None:
        """Deliver a burst to the other port."""
        target = self._b if source is self._a else self._a
        if target.backlog:
            self._pipeline.resume(target)
        if not target.offload and burst.offloaded():
            self._deliver_segments(source, target, burst)
            return
        if target.backlog or burst.verdicts:
            self._deliver_singly(source, target, burst, burst.accepted(), 0)
            return
        lengths, account = burst.lengths, target.account
        count = len(lengths)
        account.in_flight(count)
        deliveries = self._pipeline.coalescer.join(lengths) if source.coalesce else None
        if deliveries is None:
            arrived = burst.write(target.fd)
        else:
            arrived, superframes, datagrams = _write_joined(target.fd, account, burst, deliveries)
        if arrived == count:
            crossed(source.account, account, count, sum(lengths) - HEADER * count, burst.multicasts())
        else:
            account.in_flight(0)
            slots: Sequence[int] = range(count)
            if deliveries is not None:
                slots = [slot for delivery in deliveries for slot in delivery.slots]
            self._deliver_singly(source, target, burst, slots, arrived)
        if deliveries is not None:
            account.joined(superframes, datagrams)

    def _deliver_singly(
        self, source: Port, target: Port, burst: Burst, slots: Sequence[int], arrived: int
    ) -> None:
        """Deliver the frames in these slots, the first of which have arrived, and count each by its fate."""
        frames = burst.frames(slots)
        delivered, sent = frames[:arrived], frames[:arrived]
        for position, frame in enumerate(frames[arrived:], arrived):
            error = BlockingIOError() if target.backlog else target.write(frame)
            if error is None:
                sent.append(frame)
                delivered.append(frame)
            elif isinstance(error, BlockingIOError):
                sent += frames[position:]
                self._pipeline.wait(target, frames[position:])
                break
            elif error.errno in DOWN_ERRORS:
                burst.verdicts[slots[position]] = PEER_DOWN
                source.account.undeliverable(PEER_DOWN, 1)
            else:
                burst.verdicts[slots[position]] = reason(error)
                sent.append(frame)
                target.account.lost(reason(error))
        source.account.transmitted(sent, self.link.multicasts(sent))
        target.account.received(delivered, self.link.multicasts(delivered))

    def _deliver_segments(self, source: Port, target: Port, burst: Burst) -> None:
        """Deliver a burst as frames on a wire: the receiver takes no super-frames or unfinished checksums.

        All that the burst becomes is delivered or kept, also beyond the receiver's quota
        (:mod:`epaird.dataplane.queue`)."""
        for slot in burst.accepted():
            (frame,) = burst.frames((slot,))
            try:
                segments = segment(frame)
            except NotSegmentable:
                burst.verdicts[slot] = WRITE_ERROR
                source.account.transmitted((frame,), self.link.multicasts((frame,)))
                target.account.lost(WRITE_ERROR)
            else:
                if not self._deliver_segmented(source, target, frame, segments):
                    burst.verdicts[slot] = PEER_DOWN
                    source.account.undeliverable(PEER_DOWN, 1)

    def _deliver_segmented(
        self, source: Port, target: Port, frame: memoryview, segments: list[bytes]
    ) -> bool:
        """Deliver a frame as its segments, and count it; False when the receiver was down before the first
        of them."""
        account = target.account
        account.in_flight(len(target.backlog) + len(segments))
        delivered: list[bytes] = []
        for position, each in enumerate(segments):
            error = BlockingIOError() if target.backlog else target.write(each)
            if not position:
                if error is not None and error.errno in DOWN_ERRORS:
                    account.in_flight(len(target.backlog))
                    return False
                account.segmented(len(segments) - 1)
                source.account.transmitted((frame,), self.link.multicasts((frame,)))
            if error is None:
                delivered.append(each)
            elif isinstance(error, BlockingIOError):
                self._pipeline.wait(target, segments[position:])
                break
            else:
                account.lost(reason(error))
        account.in_flight(len(target.backlog))
        account.received(delivered, self.link.multicasts(delivered))
        return True


def _write_joined(
    fd: int, account: Account, burst: Burst, deliveries: Sequence[Delivery]
) -> tuple[int, int, int]:
    """Write a burst of which datagrams were joined. Return how many of its frames have arrived, in how many
    super-frames, and how many of the frames were in these.

    A super-frame that the kernel refuses ends it: its datagrams are then tried singly."""
    writes = arrived = superframes = datagrams = 0
    for buffers, slots in deliveries:
        count = len(slots)
        if buffers is None:
            written = burst.write(fd, slots)
            writes += written
            arrived += written
            if written < count:
                break
        else:
            account.joining(writes, arrived, count)
            try:
                os.writev(fd, buffers)
            except OSError:
                account.joining(writes, arrived, 1)
                break
            writes += 1
            arrived += count
            superframes += 1
            datagrams += count
    return arrived, superframes, datagrams
