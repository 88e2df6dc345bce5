"""The forwarding path: read a burst from one half, deliver it to the other, count it.

A burst is delivered at once, while it is in the cache.  Nothing is done per frame that can be done per
burst: on the usual path a frame costs a read(), two comparisons, a slice and a write(), and of those
that can be coalesced less.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from epaird.dataplane.burst import SLOT
from epaird.dataplane.coalesce import Coalescer, Delivery
from epaird.dataplane.frames import ETHERNET, HEADER, VLAN_TAG
from epaird.dataplane.interface import Interface
from epaird.dataplane.path import DOWN, Path, Poller, count_refused, write
from epaird.dataplane.queue import Queue
from epaird.dataplane.toobig import too_big
from epaird.ipc.counters import (
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    IERRORS,
    IN_FLIGHT,
    IPACKETS,
    JOINING,
    OERRORS,
    OPACKETS,
    OVERSIZE,
    PEER_DOWN,
    TOO_BIG,
    WRITE_ERROR,
)
from epaird.ipc.ledger import Words

ANSWERS: Final = 8
"""Bursts the halves of one cable may exchange before it is another cable's turn."""


class Forwarder(Path):
    """Moves frames between the halves of cables; one per worker."""

    def __init__(self, queue: Queue, poller: Poller) -> None:
        super().__init__(queue, poller)
        self._coalescer = Coalescer(self._burst.arena, SLOT)

    def exchange(self, source: Interface) -> bool:
        """Transmit from one half, then from the other what it has to answer already, and so on for a while.

        A receiver's acknowledgements, and what they let its sender send, are there as soon as write() has
        returned: the kernel does all that in it.  To read them at once spares the loop a turn for each.
        True when there was no more to read."""
        exhausted = self.transmit(source)
        for _ in range(ANSWERS):
            source = source.peer
            if not (exhausted and self._burst.lengths and source.attached) or source.listed:
                break
            exhausted = self.transmit(source)
        return exhausted

    def restart(self) -> None:
        """The queue has drained: let those on the drain list send, in order."""
        queue = self._queue
        for interface in queue.restarting():
            if (interface.loop or self).transmit(interface):
                queue.unlist(interface)
                self._poller.start_reading(interface)
        if queue.restart_due:
            self._poller.await_restart()

    def discard(self, target: Interface) -> None:
        """Give up what waits for ``target``: its device is gone, or takes nothing."""
        if target.backlog:
            target.words[IERRORS + WRITE_ERROR] += len(target.backlog)
            self._queue.taken(target, len(target.backlog))
        if self._queue.restart_due:
            self._poller.await_restart()

    def _refuse(self, source: Interface) -> None:
        """Count what was refused of a burst, and tell its sender once what would not have been."""
        for reason in self._burst.refused:
            source.words[OERRORS + reason] += 1
        if self._burst.refused[-1] == OVERSIZE:
            mtu = source.limit - HEADER - ETHERNET - VLAN_TAG
            answer = too_big(self._burst.refused_frame, mtu)
            if answer is not None and write(source, answer) is None:
                source.words[TOO_BIG] += 1

    def _deliver(self, source: Interface) -> None:
        target, burst = source.peer, self._burst
        if target.backlog:
            self.resume(target)
        if target.backlog or burst.refused:
            self._deliver_singly(source, burst.frames(), 0)
            return
        lengths = burst.lengths
        count = len(lengths)
        target.refs += count
        target.words[IN_FLIGHT] = count
        deliveries = self._coalescer.join(lengths) if source.coalesce else None
        superframes = datagrams = 0
        if deliveries is None:
            arrived = burst.write(target.fd)
        else:
            arrived, superframes, datagrams = self._write_joined(target, deliveries)
        target.refs -= count
        target.words[IN_FLIGHT] = 0
        if arrived == count:
            octets, multicasts = sum(lengths) - HEADER * count, burst.multicasts()
            _add(source.words, OPACKETS, count, octets, multicasts)
            _add(target.words, IPACKETS, count, octets, multicasts)
        else:
            frames = burst.frames()
            if deliveries is not None:
                frames = [frames[slot] for _, slots in deliveries for slot in slots]
            self._deliver_singly(source, frames, arrived)
        if deliveries is not None:
            # In this order, behind the frames: settle() tells by it how far a worker has come that died here.
            target.words[JOINING] = 0
            target.words[COALESCED_SUPERFRAMES] += superframes
            target.words[COALESCED_DATAGRAMS] += datagrams

    def _write_joined(self, target: Interface, deliveries: list[Delivery]) -> tuple[int, int, int]:
        """Write a burst of which datagrams were joined, and return how many of its frames have arrived,
        and by how many super-frames how many of these.

        A super-frame that the kernel refuses ends it: its datagrams are tried singly then."""
        fd, words = target.fd, target.words
        writes = arrived = superframes = datagrams = 0
        for buffers, slots in deliveries:
            count = len(slots)
            if buffers is None:
                written = self._burst.write(fd, slots)
                writes += written
                arrived += written
                if written < count:
                    break
            else:
                words[JOINING] = writes << 32 | arrived << 16 | count
                try:
                    os.writev(fd, buffers)
                except OSError:
                    words[JOINING] = writes << 32 | arrived << 16 | 1
                    break
                writes += 1
                arrived += count
                superframes += 1
                datagrams += count
        return arrived, superframes, datagrams

    def _deliver_singly(self, source: Interface, frames: list[memoryview], arrived: int) -> None:
        """Deliver a burst of which the first frames have arrived, and count each frame by its own fate."""
        target = source.peer
        delivered = frames[:arrived]
        sent = frames[:arrived]
        for position, frame in enumerate(frames[arrived:], arrived):
            error = BlockingIOError() if target.backlog else write(target, frame)
            if error is None:
                sent.append(frame)
                delivered.append(frame)
            elif isinstance(error, BlockingIOError):
                sent += frames[position:]
                self._queue.put(target, [bytes(each) for each in frames[position:]])
                self._poller.await_room(target)
                break
            elif error.errno in DOWN:
                source.words[OERRORS + PEER_DOWN] += 1
            else:
                sent.append(frame)
                count_refused(target, error)
        _count(source.words, OPACKETS, sent)
        self._received(target.words, delivered)

    def _received(self, words: Words, frames: Sequence[bytes | memoryview]) -> None:
        _count(words, IPACKETS, frames)


def _add(words: Words, packets: int, count: int, octets: int, multicasts: int) -> None:
    """Add a burst to the counters at ``packets`` and behind it: frames, octets, multicasts."""
    words[packets] += count
    words[packets + 1] += octets
    if multicasts:
        words[packets + 2] += multicasts


def _count(words: Words, packets: int, frames: Sequence[bytes | memoryview]) -> None:
    """Add these frames to the counters at ``packets``."""
    octets = sum(map(len, frames)) - HEADER * len(frames)
    _add(words, packets, len(frames), octets, sum(frame[HEADER] & 1 for frame in frames))
