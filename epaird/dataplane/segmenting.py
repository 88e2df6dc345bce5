"""Segmenting: the frames that a super-frame is on a wire, with their checksums complete.

The kernel does this in skb_segment(), tcp_gso_segment(), udp_gso_segment() and skb_checksum_help(); the
frames are the same byte for byte. What their headers are is in :mod:`epaird.dataplane.superframe`.

Nothing here is fast: a segment takes about 3 us, and the kernel's own segmentation is used wherever it can
be (``TUNSETOFFLOAD``). What remains are frames that were transmitted before it was requested.
"""

from __future__ import annotations

from typing import Final

from epaird.dataplane.frames import HEADER
from epaird.dataplane.headers import complement, ones_sum
from epaird.dataplane.superframe import TCP_CHECKSUM, UDP_CHECKSUM, NotSegmentable, PartHeaders, parse
from epaird.kernel.abi import (
    VIRTIO_NET_HDR,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE,
)

_CLEAN: Final = bytes(HEADER)
"""The virtio_net_hdr of a frame as on a wire."""


def segment(frame: bytes | memoryview) -> list[bytes]:
    """Return the frames of which a frame consists on a wire, each after an empty virtio_net_hdr.

    ``frame`` is a virtio_net_hdr and an Ethernet frame. Of a frame that is no super-frame only the checksum
    is completed. Raises NotSegmentable."""
    flags, gso_type, _, _, checksum_start, checksum_offset = VIRTIO_NET_HDR.unpack_from(frame)
    if gso_type & ~VIRTIO_NET_HDR_GSO_ECN == VIRTIO_NET_HDR_GSO_NONE:
        if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
            return [_completed(frame, HEADER + checksum_start, checksum_offset)]
        return [_CLEAN + bytes(frame[HEADER:])]
    whole = memoryview(frame)
    shape = parse(whole)
    headers = PartHeaders.of(whole, shape)
    payload, size, last = whole[shape.header :], shape.size, shape.segments - 1
    return [
        _finished(headers, number, payload[number * size : number * size + size], number == last)
        for number in range(shape.segments)
    ]


def _completed(frame: bytes | memoryview, start: int, offset: int) -> bytes:
    """Return a frame whose checksum, ``offset`` bytes from ``start``, is complete: it is over everything from
    ``start`` on, and its place has the sum of what is before that."""
    field = start + offset
    if field + 2 > len(frame):
        raise NotSegmentable(f"its checksum is at {field} of {len(frame)} bytes")
    checksum = complement(ones_sum(frame[start:])) or 0xFFFF
    return b"".join((_CLEAN, frame[HEADER:field], checksum.to_bytes(2), frame[field + 2 :]))


def _finished(headers: PartHeaders, number: int, payload: memoryview, last: bool) -> bytes:
    """Return a segment with its checksum complete."""
    head, shape = headers.written(number, len(payload), last), headers.shape
    head[:HEADER] = _CLEAN
    checksum = complement(ones_sum(head[shape.transport :]) + ones_sum(payload))
    field = shape.transport + (TCP_CHECKSUM if shape.tcp else UDP_CHECKSUM)
    # A UDP checksum of 0 means none; the kernel changes 0 here for UDP only.
    head[field : field + 2] = (checksum if shape.tcp else checksum or 0xFFFF).to_bytes(2)
    return bytes(head) + payload
