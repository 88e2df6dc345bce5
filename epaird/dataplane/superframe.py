"""The shape of a super-frame, and the headers of its parts.

A part is one segment or several in a row. The kernel defines what its headers are (inet_gso_segment(),
ipv6_gso_segment(), tcp_gso_segment(), __udp_gso_segment()):

- IP and UDP lengths and all checksums are its own.
- The IPv4 identification grows by one with each segment, also from 0 and where the packet must not be
  fragmented. Linux can keep it the same (SKB_GSO_TCP_FIXEDID), but a virtio_net_hdr cannot request that.
- The TCP sequence number grows by gso_size with each segment.
- FIN and PSH are on the last segment only, CWR on the first only.
- VLAN tags, IPv4 options and IPv6 extension headers are repeated.

A transport checksum is unfinished: it is the sum of the pseudo-header. One that is wrong in the super-frame
stays wrong. A super-frame whose transport checksum is whole is treated as if that were unfinished and right,
as in the kernel.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Self

from epaird.dataplane.frames import HEADER
from epaird.dataplane.headers import (
    IPV4,
    IPV4_HEADER,
    IPV6,
    IPV6_HEADER,
    complement,
    network,
    ones_sum,
    upper,
)
from epaird.kernel.abi import (
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
    VIRTIO_NET_HDR_GSO_UDP_L4,
)

TCP: Final = 6
"""Protocol number of TCP."""
UDP: Final = 17
"""Protocol number of UDP."""
TCP_CHECKSUM: Final = 16
"""Bytes of a TCP header before its checksum."""
UDP_CHECKSUM: Final = 6
"""Bytes of a UDP header before its checksum."""

_TCP_HEADER: Final = 20
_UDP_HEADER: Final = 8
_TCP_SEQUENCE: Final = 4
_TCP_DATA_OFFSET: Final = 12
_TCP_FLAGS: Final = 13
_FIN_PSH: Final = 0x01 | 0x08
_CWR: Final = 0x80
_PACKET_MAX: Final = 0xFFFF
"""Bytes of the longest IP packet. With IPv6 the header would not count, but no device has an MTU for that."""

_WORD: Final = struct.Struct(">H")
_WORDS: Final = struct.Struct(">HH")
_LONG: Final = struct.Struct(">I")
_BEFORE_IP: Final = struct.Struct("<BBHHHH12x2sB")  # virtio_net_hdr, EtherType, first byte behind it

_KINDS: Final = {
    VIRTIO_NET_HDR_GSO_TCPV4: ((IPV4,), TCP),
    VIRTIO_NET_HDR_GSO_TCPV6: ((IPV6,), TCP),
    VIRTIO_NET_HDR_GSO_UDP_L4: ((IPV4, IPV6), UDP),
}
"""By gso_type, the EtherTypes and the transport protocol."""


class NotSegmentable(ValueError):
    """A frame whose virtio_net_hdr is of an unknown kind or does not match its contents."""


class Shape(NamedTuple):
    """How a frame divides into segments. All numbers of bytes include the virtio_net_hdr."""

    header: int
    """Bytes of all headers, which each segment repeats; of the whole frame where it is one segment."""
    size: int
    """Bytes of payload in each segment but the last (gso_size); 0 where the frame is one segment."""
    segments: int
    """The number of segments: 1 for a frame that is no super-frame."""
    length: int
    """Bytes of the frame."""
    network: int
    """Bytes before the IP header; 0 for a frame that is no super-frame."""
    transport: int
    """Bytes before the transport header; 0 for a frame that is no super-frame."""
    ipv4: bool
    """True for IPv4, False for IPv6."""
    tcp: bool
    """True for TCP, False for UDP."""


def parse(frame: memoryview) -> Shape:
    """Return the shape of a super-frame, which fills ``frame``. Raises NotSegmentable."""
    length = len(frame)
    try:
        flags, gso_type, _, size, transport, _, ethertype, first = _BEFORE_IP.unpack_from(frame)
        ethertypes, protocol = _KINDS[gso_type & ~VIRTIO_NET_HDR_GSO_ECN]
    except (struct.error, KeyError):
        raise NotSegmentable(f"gso_type {frame[1]}, {length} bytes") from None
    start = HEADER + 14
    if ethertype not in ethertypes:
        start, ethertype = network(frame)
        if ethertype not in ethertypes:
            raise NotSegmentable(f"EtherType {ethertype.hex()}")
        first = frame[start] if start < length else 0
    ipv4 = ethertype == IPV4
    shortest = IPV4_HEADER if ipv4 else IPV6_HEADER
    if length < start + shortest or not size:
        raise NotSegmentable(f"gso_size {size}, {length} bytes")
    if ipv4:
        actual, after = frame[start + 9], (first & 0xF) * 4
    else:
        actual, after = frame[start + 6], IPV6_HEADER
        if actual != protocol:
            actual, after, _ = upper(frame[start:])
    transport = HEADER + transport if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM else start + after
    tcp = protocol == TCP
    header = transport + (_TCP_HEADER if tcp else _UDP_HEADER)
    if tcp and header <= length:
        header = transport + max(_TCP_HEADER, (frame[transport + _TCP_DATA_OFFSET] >> 4) * 4)
    if actual != protocol or after < shortest or transport != start + after or header > length:
        raise NotSegmentable(f"protocol {actual}, headers of {header} of {length} bytes")
    payload = length - header
    if (longest := header - start + min(size, payload)) > _PACKET_MAX:
        raise NotSegmentable(f"segments of {longest} bytes")
    return Shape(header, size, -(-payload // size) or 1, length, start, transport, ipv4, tcp)


class PartHeaders(NamedTuple):
    """What the headers of each part of a super-frame are made of."""

    head: bytes
    """The super-frame's headers."""
    shape: Shape
    """The shape of the super-frame."""
    network_sum: int
    """The sum of the IPv4 header without length, identification and checksum."""
    identification: int
    """The IPv4 identification of the first segment."""
    sequence: int
    """The TCP sequence number of the first segment."""
    pseudo: int
    """The sum of the pseudo-header without the length."""

    @classmethod
    def of(cls, frame: memoryview, shape: Shape) -> Self:
        """Return those of a super-frame at the start of ``frame``, which may be overwritten afterwards."""
        start, transport = shape.network, shape.transport
        head = bytearray(frame[: shape.header])
        if head[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM:
            # A wrong sum stays wrong.
            field = transport + (TCP_CHECKSUM if shape.tcp else UDP_CHECKSUM)
            pseudo = _WORD.unpack_from(head, field)[0] - (shape.length - transport)
        else:
            addresses = head[start + 12 : start + 20] if shape.ipv4 else head[start + 8 : start + 40]
            pseudo = ones_sum(addresses) + (TCP if shape.tcp else UDP)
        network_sum = identification = sequence = 0
        if shape.ipv4:
            _, identification = _WORDS.unpack_from(head, start + 2)
            _WORDS.pack_into(head, start + 2, 0, 0)
            _WORD.pack_into(head, start + 10, 0)
            network_sum = ones_sum(head[start : start + (head[start] & 0xF) * 4])
        if shape.tcp:
            (sequence,) = _LONG.unpack_from(head, transport + _TCP_SEQUENCE)
        return cls(bytes(head), shape, network_sum, identification, sequence, pseudo)

    def written(self, first: int, payload: int, last: bool) -> bytearray:
        """Return the headers of the part from segment ``first`` on with so many bytes of payload.

        ``last`` is whether it ends with the last segment. The virtio_net_hdr is the super-frame's. The
        transport checksum is the sum of the pseudo-header, written as 1 to 0xffff as the kernel does."""
        template, shape, network_sum, identification, sequence, pseudo = self
        head, start, transport = bytearray(template), shape.network, shape.transport
        octets = shape.header - transport + payload
        if shape.ipv4:
            length = octets + transport - start
            identification = (identification + first) & 0xFFFF
            _WORDS.pack_into(head, start + 2, length, identification)
            _WORD.pack_into(head, start + 10, complement(network_sum + length + identification))
        else:
            _WORD.pack_into(head, start + 4, octets + transport - start - IPV6_HEADER)
        pseudo = (pseudo + octets - 1) % 0xFFFF + 1
        if shape.tcp:
            at = sequence + first * shape.size
            _LONG.pack_into(head, transport + _TCP_SEQUENCE, at & 0xFFFFFFFF)
            if not last:
                head[transport + _TCP_FLAGS] &= ~_FIN_PSH & 0xFF
            if first:
                head[transport + _TCP_FLAGS] &= ~_CWR & 0xFF
            _WORD.pack_into(head, transport + TCP_CHECKSUM, pseudo)
        else:
            _WORDS.pack_into(head, transport + 4, octets, pseudo)
        return head
