"""Cutting single segments out of super-frames, in place.

The segments of a super-frame that are not dropped are delivered as pieces: each is a super-frame of fewer
segments or, where it is one segment, an ordinary frame with an unfinished checksum. So the kernel that
receives the pieces has no more frames to handle than there are pieces, and completes their checksums:

1. The first piece starts where the super-frame starts. Its headers are changed in place.
2. Segments before a later piece were dropped. The piece's headers are written into their room, directly
   before its payload: no payload is copied.
3. Where that room is too short, or nothing was dropped between two pieces, the piece is copied instead.

:mod:`epaird.dataplane.superframe` defines what the headers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.wire import OVERHEAD, SHORTEST
from epaird.dataplane.superframe import (
    TCP_CHECKSUM,
    UDP_CHECKSUM,
    NotSegmentable,
    PartHeaders,
    Shape,
    parse,
)
from epaird.kernel.abi import (
    VIRTIO_NET_HDR,
    VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE,
)


class Piece(NamedTuple):
    """Segments in a row that are delivered as one frame."""

    offset: int
    """Where it starts in the super-frame's buffer; 0 for a copy."""
    length: int
    """Its bytes, with its virtio_net_hdr."""
    segments: int
    """The number of its segments."""
    first: int
    """The number of its first segment, from 0."""
    copy: bytes | None
    """The piece itself where it could not be made in place."""


def shape(frame: memoryview, length: int) -> Shape:
    """Return how the frame of ``length`` bytes at the start of ``frame`` divides into segments.

    A frame that is no super-frame, or that is not understood, is one segment. Takes about 1.2 us for a
    super-frame, 0.4 us for others."""
    if length > HEADER and frame[1]:
        try:
            found = parse(frame[:length])
        except NotSegmentable:
            pass
        else:
            if found.segments > 1:
                return found
    return single(length)


def single(length: int) -> Shape:
    """Return the shape of a frame of one segment."""
    return Shape(length, 0, 1, length, 0, 0, False, False)


def wire_octets(shape: Shape, segment: int) -> int:
    """Return the bytes that a segment takes on a wire: with preamble, padding, FCS and gap."""
    header, size = shape.header, shape.size
    octets = header - HEADER + min(size, shape.length - header - segment * size)
    return max(octets, SHORTEST) + OVERHEAD


def total_wire_octets(shape: Shape) -> int:
    """Return the bytes that all segments take on a wire."""
    last = shape.segments - 1
    return wire_octets(shape, last) + (last * wire_octets(shape, 0) if last else 0)


def extract(frame: memoryview, shape: Shape, start: int, stop: int) -> bytes:
    """Return a copy of the segments from ``start`` up to ``stop`` as a frame.

    To be called before :func:`pieces`, which overwrites the super-frame."""
    if stop - start == shape.segments:
        return bytes(frame[: shape.length])
    return _copied(frame, PartHeaders.of(frame, shape), start, stop)


def pieces(frame: memoryview, shape: Shape, kept: Sequence[tuple[int, int]]) -> list[Piece]:
    """Return what is delivered of a super-frame of which only the segments in these ranges stay.

    ``kept`` is ascending and without overlaps; the second number of each range is beyond its last segment.
    ``frame`` has the super-frame at its start and is changed: nothing else of it is of use afterwards."""
    if len(kept) == 1 and kept[0] == (0, shape.segments):
        return [Piece(0, shape.length, shape.segments, 0, None)]
    made: list[Piece] = []
    if not kept:
        return made
    headers = PartHeaders.of(frame, shape)
    header, size, segments, length = shape[:4]
    after = 0
    for start, stop in kept:
        # There is always room before the first piece: that of the super-frame's headers.
        if not made or (start - after) * size >= header:
            offset = start * size
            end = length if stop == segments else header + stop * size
            frame[offset : offset + header] = _head(headers, start, stop, end - offset - header)
            made.append(Piece(offset, end - offset, stop - start, start, None))
        else:
            copy = _copied(frame, headers, start, stop)
            made.append(Piece(0, len(copy), stop - start, start, copy))
        after = stop
    return made


def _copied(frame: memoryview, headers: PartHeaders, start: int, stop: int) -> bytes:
    """Return a copy of these segments as a frame."""
    header, size, segments, length = headers.shape[:4]
    payload = frame[header + start * size : length if stop == segments else header + stop * size]
    return b"".join((_head(headers, start, stop, len(payload)), payload))


def _head(headers: PartHeaders, start: int, stop: int, payload: int) -> bytearray:
    """Return the headers of the piece with these segments and so many bytes of payload."""
    shape = headers.shape
    head = headers.written(start, payload, stop == shape.segments)
    flags, gso_type = head[0], head[1]
    flags = flags & ~VIRTIO_NET_HDR_F_DATA_VALID | VIRTIO_NET_HDR_F_NEEDS_CSUM
    size, header = shape.size, shape.header - HEADER
    if stop - start == 1:
        gso_type, size, header = VIRTIO_NET_HDR_GSO_NONE, 0, 0
    elif start:
        # The flag means that the first segment has CWR.
        gso_type &= ~VIRTIO_NET_HDR_GSO_ECN
    checksum = TCP_CHECKSUM if shape.tcp else UDP_CHECKSUM
    VIRTIO_NET_HDR.pack_into(head, 0, flags, gso_type, header, size, shape.transport - HEADER, checksum)
    return head
