"""Corruption: one segment is delivered with a flipped bit that no checksum repairs.

A card drops a frame with a wrong frame check sequence, so what a user expects of corruption is what escapes
that: a frame that reaches its receiver, where the transport checksum finds the fault and counts it (for TCP
and UDP ``InCsumErrors``). Therefore:

1. The checksum that the sender left to be finished is completed before the bit is flipped.
2. Only a bit that the transport checksum covers is flipped, never one of the Ethernet header, VLAN tags or
   the IP header with its extension headers: those could lead the frame elsewhere.
3. Also left alone are fields for which Linux drops a packet before it looks at the checksum, or that turn
   the checksum off: the data offset of TCP, length and checksum of UDP. Padding is covered by nothing.
4. A fragment is corrupted behind its IP header: the checksum of the reassembled packet finds the fault.
5. A UDP datagram without checksum is corrupted in its payload, and is received like that.
6. Any other frame (ARP, unknown protocols, IP without payload) is corrupted anywhere behind its Ethernet
   header and tags.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from epaird.dataplane.headers import (
    FRAGMENT_OFFSET,
    IPV4,
    IPV4_HEADER,
    IPV6,
    IPV6_HEADER,
    network,
    upper,
)
from epaird.dataplane.impair.pieces import extract
from epaird.dataplane.segmenting import segment
from epaird.dataplane.superframe import TCP, UDP, NotSegmentable, Shape
from epaird.kernel.abi import VIRTIO_NET_HDR_F_NEEDS_CSUM

_TCP_DATA_OFFSET: Final = 12
_UDP_LENGTH: Final = 4
_UDP_HEADER: Final = 8

Span = tuple[int, int]
"""The first byte of some in a row, and the one after the last."""


class _Message(NamedTuple):
    """What an IP packet carries."""

    protocol: int | None
    """Its protocol number; None where it has no header that could be looked at: later fragments."""
    start: int
    """Bytes of the frame before it."""
    end: int
    """Bytes of the frame up to its end; padding may follow."""


def corrupt(frame: memoryview, shape: Shape, number: int, bit: int) -> bytes:
    """Return a copy of segment ``number`` as a frame of its own with one bit flipped.

    ``bit`` is a random number, of which the remainder chooses among the bits that may be flipped. A frame
    that ends with its Ethernet header has none and is returned as it is. To be called before
    :func:`~epaird.dataplane.impair.pieces.pieces`, which overwrites the super-frame."""
    single = extract(frame, shape, number, number + 1)
    try:
        (finished,) = segment(single)
    except (NotSegmentable, struct.error):
        # Nothing can be finished; without the flag nothing is repaired either.
        finished = bytes((single[0] & ~VIRTIO_NET_HDR_F_NEEDS_CSUM,)) + single[1:]
    corrupted = bytearray(finished)
    spans = list(_spans(memoryview(finished)))
    octets = sum(stop - start for start, stop in spans)
    if octets:
        place, within = divmod(bit % (octets * 8), 8)
        for start, stop in spans:
            if place < stop - start:
                corrupted[start + place] ^= 1 << within
                break
            place -= stop - start
    return bytes(corrupted)


def _spans(frame: memoryview) -> Iterator[Span]:
    """Yield the bytes of a frame, none of them empty, in which a bit may be flipped."""
    start, ethertype = network(frame)
    message = None
    if ethertype == IPV4 and len(frame) >= start + IPV4_HEADER:
        message = _over_ipv4(frame, start)
    elif ethertype == IPV6 and len(frame) >= start + IPV6_HEADER:
        message = _over_ipv6(frame, start)
    if message is None or message.start >= message.end:
        message = _Message(None, start, len(frame))
    for first, last in _covered(frame, message):
        if first < min(last, message.end):
            yield first, min(last, message.end)


def _over_ipv4(frame: memoryview, start: int) -> _Message | None:
    """Return the message in an IPv4 packet ``start`` bytes into a frame; None where its header is wrong."""
    length, _, fragment = struct.unpack_from("!HHH", frame, start + 2)
    header = (frame[start] & 0xF) * 4
    if frame[start] >> 4 != 4 or header < IPV4_HEADER:
        return None
    protocol = None if fragment & FRAGMENT_OFFSET else frame[start + 9]
    return _Message(protocol, start + header, min(len(frame), start + length) if length else len(frame))


def _over_ipv6(frame: memoryview, start: int) -> _Message | None:
    """Return the message in an IPv6 packet likewise."""
    if frame[start] >> 4 != 6:
        return None
    (length,) = struct.unpack_from("!H", frame, start + 4)
    protocol, after, fragment = upper(frame[start:])
    end = min(len(frame), start + IPV6_HEADER + length) if length else len(frame)
    return _Message(None if fragment else protocol, start + after, end)


def _covered(frame: memoryview, message: _Message) -> tuple[Span, ...]:
    """Return what the checksum of a message covers, without the fields that are left alone. Spans may be
    empty, or exceed the message."""
    protocol, start, end = message
    if protocol == TCP:
        offset = start + _TCP_DATA_OFFSET
        return (start, offset), (offset + 1, end)
    if protocol == UDP and start + _UDP_HEADER <= end:
        length, checksum = struct.unpack_from("!HH", frame, start + _UDP_LENGTH)
        payload = start + _UDP_HEADER
        # The packet may be longer than the datagram.
        end = min(end, max(start + length, payload))
        if not checksum and payload < end:
            return ((payload, end),)
        return (start, start + _UDP_LENGTH), (payload, end)
    return ((start, end),)
