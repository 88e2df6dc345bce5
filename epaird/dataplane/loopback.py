"""Loopbacks: what an interface's owner sends is delivered to the same owner.

A packet as read from a TUN device is a virtio_net_hdr and an IP packet.  Two ways to deliver it:

- reflected: source and destination address change places, so that the owner hears from the address it
  spoke to.  No checksum changes by that, whole or still to be completed: it is a sum, and both addresses
  are in it.  A packet for a group is left alone, since no packet may come from one.
- verbatim, as BSD's looutput() does.

As in NetBSD a packet counts as sent before its family is looked at, and as received once it is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from epaird.dataplane.frames import HEADER
from epaird.dataplane.interface import Interface
from epaird.dataplane.path import Path, Poller, count_refused, write
from epaird.dataplane.queue import Queue
from epaird.ipc.counters import FAMILY, IERRORS, IN_FLIGHT, IPACKETS, OERRORS, OPACKETS, RUNT
from epaird.ipc.ledger import Words

_V4_SOURCE: Final = slice(HEADER + 12, HEADER + 16)
_V4_TARGET: Final = slice(HEADER + 16, HEADER + 20)
_V4_SHORTEST: Final = HEADER + 20
_V6_SOURCE: Final = slice(HEADER + 8, HEADER + 24)
_V6_TARGET: Final = slice(HEADER + 24, HEADER + 40)
_V6_SHORTEST: Final = HEADER + 40


def read_limit(mtu: int) -> int:
    """Bytes, header included, up to which a packet fits the MTU without a closer look."""
    return HEADER + mtu


class Loopback(Path):
    """Moves the packets of loopbacks; one per worker."""

    def __init__(self, queue: Queue, poller: Poller, unknown: Callable[[Interface, int], None]) -> None:
        """``unknown(interface, version)`` is called for each packet of no family that a loopback takes."""
        super().__init__(queue, poller)
        self._unknown = unknown
        self._reflecting: set[Interface] = set()

    def add(self, interface: Interface, *, reflect: bool) -> None:
        """Take an interface on."""
        interface.loop = self
        interface.peer = interface
        if reflect:
            self._reflecting.add(interface)

    def remove(self, interface: Interface) -> None:
        """Forget an interface."""
        self._reflecting.discard(interface)

    def _refuse(self, source: Interface) -> None:
        for reason in self._burst.refused:
            source.words[OERRORS + reason] += 1

    def _deliver(self, source: Interface) -> None:
        interface, words, packets = source, source.words, self._burst.frames()
        if interface.backlog:
            self.resume(interface)
        _count(words, OPACKETS, packets)
        reflect = interface in self._reflecting
        sound = [packet for packet in packets if self._sound(interface, packet, reflect)]
        interface.refs += len(sound)
        words[IN_FLIGHT] += len(sound)
        delivered: list[memoryview] = []
        waiting: list[memoryview] = []
        for position, packet in enumerate(sound):
            error = BlockingIOError() if interface.backlog else write(interface, packet)
            if error is None:
                delivered.append(packet)
            elif isinstance(error, BlockingIOError):
                waiting = sound[position:]
                break
            else:
                count_refused(interface, error)
        interface.refs -= len(sound)
        words[IN_FLIGHT] = len(interface.backlog)
        self._received(words, delivered)
        if waiting:
            self._queue.put(interface, [bytes(each) for each in waiting])
            self._poller.await_room(interface)

    def _received(self, words: Words, frames: Sequence[bytes | memoryview]) -> None:
        _count(words, IPACKETS, frames)

    def _sound(self, interface: Interface, packet: memoryview, reflect: bool) -> bool:
        """Whether a packet can be delivered; its addresses have changed places then, if they shall."""
        version = packet[HEADER] >> 4
        if version == 4:
            if len(packet) < _V4_SHORTEST:
                interface.words[IERRORS + RUNT] += 1
                return False
            if reflect and packet[_V4_TARGET.start] & 0xF0 != 0xE0:
                source = bytes(packet[_V4_SOURCE])
                packet[_V4_SOURCE] = packet[_V4_TARGET]
                packet[_V4_TARGET] = source
            return True
        if version == 6:
            if len(packet) < _V6_SHORTEST:
                interface.words[IERRORS + RUNT] += 1
                return False
            if reflect and packet[_V6_TARGET.start] != 0xFF:
                source = bytes(packet[_V6_SOURCE])
                packet[_V6_SOURCE] = packet[_V6_TARGET]
                packet[_V6_TARGET] = source
            return True
        interface.words[IERRORS + FAMILY] += 1
        self._unknown(interface, version)
        return False


def _count(words: Words, packets: int, those: Sequence[bytes | memoryview]) -> None:
    """Add these packets to the counters at ``packets`` and behind it."""
    words[packets] += len(those)
    words[packets + 1] += sum(map(len, those)) - HEADER * len(those)
    multicasts = sum(map(_is_multicast, those))
    if multicasts:
        words[packets + 2] += multicasts


def _is_multicast(packet: memoryview | bytes) -> bool:
    if packet[HEADER] >> 4 == 4:
        return len(packet) >= _V4_SHORTEST and packet[_V4_TARGET.start] & 0xF0 == 0xE0
    return packet[HEADER] >> 4 == 6 and len(packet) >= _V6_SHORTEST and packet[_V6_TARGET.start] == 0xFF
