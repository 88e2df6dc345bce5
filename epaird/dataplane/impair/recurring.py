"""Super-frames like the one before: how one divides into segments, without another look at its headers.

The super-frames of one TCP stream differ in length, identification, numbers and checksums. None of these but
the length matters for :func:`epaird.dataplane.superframe.parse`. So the bytes that do matter are compared
with those of the last super-frame, which takes 0.3 us; to examine, parse and measure it anew takes 4 us.
"""

from __future__ import annotations

import struct
from typing import Final

from epaird.dataplane.frames import ETHERNET, HEADER
from epaird.dataplane.headers import IPV4_HEADER, IPV6_HEADER
from epaird.dataplane.impair.wire import OVERHEAD, SHORTEST
from epaird.dataplane.superframe import NotSegmentable, Shape, parse

UNKNOWN: Final = (0, 0)
"""The result for a frame that is not like the last one."""
_START: Final = HEADER + ETHERNET
# virtio_net_hdr; EtherType and first byte of the IP header; protocol; data offset of the TCP header.
_TCP_IPV4: Final = struct.Struct("=10s12x3s8xB22xB")
_TCP_IPV6: Final = struct.Struct("=10s12x3s5xB45xB")
_UDP_IPV4: Final = struct.Struct("=10s12x3s8xB")
_UDP_IPV6: Final = struct.Struct("=10s12x3s5xB")


class Recurring:
    """Remembers one super-frame of more than one segment, without a tag, options or extension headers."""

    __slots__ = ("_fields", "_header", "_limit", "_size", "_struct")

    def __init__(self) -> None:
        self._struct = _TCP_IPV4
        self._fields: tuple[object, ...] = ()
        self._limit = self._header = self._size = 0

    def division(self, frame: memoryview, length: int, limit: int) -> tuple[int, int]:
        """Return the number of segments, and their bytes on the wire altogether, of a super-frame of
        ``length`` bytes at the start of ``frame``, which was not truncated; UNKNOWN where it is not like the
        last one, or the limit of the frames' length is another one."""
        payload, size = length - self._header, self._size
        if payload <= size or self._limit != limit or self._struct.unpack_from(frame) != self._fields:
            return UNKNOWN
        segments = -(-payload // size)
        head = self._header - HEADER
        last = head + payload - (segments - 1) * size
        wire = (segments - 1) * (max(head + size, SHORTEST) + OVERHEAD) + max(last, SHORTEST) + OVERHEAD
        return segments, wire

    def learn(self, frame: memoryview, length: int, limit: int) -> None:
        """Remember a frame that this limit permits, if it is such a super-frame."""
        if not frame[1]:
            return
        try:
            shape = parse(frame[:length])
        except NotSegmentable:
            return
        header = IPV4_HEADER if shape.ipv4 else IPV6_HEADER
        if shape.segments > 1 and shape.network == _START and shape.transport == _START + header:
            self._remember(frame, shape, limit)

    def _remember(self, frame: memoryview, shape: Shape, limit: int) -> None:
        if shape.tcp:
            self._struct = _TCP_IPV4 if shape.ipv4 else _TCP_IPV6
        else:
            self._struct = _UDP_IPV4 if shape.ipv4 else _UDP_IPV6
        self._fields = self._struct.unpack_from(frame)
        self._header, self._size, self._limit = shape.header, shape.size, limit
