"""Segmenting: the frames that a super-frame is on a wire, with their checksums complete.

The kernel does this in skb_segment(), tcp_gso_segment(), udp_gso_segment() and skb_checksum_help(); the
frames are the same byte for byte:

- Each segment has the headers of the super-frame and up to gso_size bytes of its payload. IP and UDP lengths
  and all checksums are its own.
- The IPv4 identification grows by one with each segment, the TCP sequence number by gso_size.
- FIN and PSH are on the last segment only, CWR on the first only.
- VLAN tags, IPv4 options and IPv6 extension headers are repeated.

Nothing here is fast: a segment takes about 3 us, and the kernel's own segmentation is used wherever it can
be (``TUNSETOFFLOAD``). What remains are frames that were transmitted before it was requested.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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
    VIRTIO_NET_HDR,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
    VIRTIO_NET_HDR_GSO_UDP_L4,
)

_CLEAN: Final = bytes(HEADER)
"""The virtio_net_hdr of a frame as on a wire."""
_TCP: Final = 6
_UDP: Final = 17
_TCP_HEADER: Final = 20
_UDP_HEADER: Final = 8
_TCP_SEQUENCE: Final = 4
_TCP_DATA_OFFSET: Final = 12
_TCP_FLAGS: Final = 13
_TCP_CHECKSUM: Final = 16
_UDP_CHECKSUM: Final = 6
_PACKET_MAX: Final = 0xFFFF
"""Bytes of the longest IP packet. With IPv6 the header would not count, but no device has an MTU for that."""
_FIN_PSH: Final = 0x01 | 0x08
_CWR: Final = 0x80


class NotSegmentable(ValueError):
    """A frame whose virtio_net_hdr is of an unknown kind or does not match its contents."""


def segment(frame: bytes | memoryview) -> list[bytes]:
    """Return the frames of which a frame consists on a wire, each after an empty virtio_net_hdr.

    ``frame`` is a virtio_net_hdr and an Ethernet frame. Of a frame that is no super-frame only the checksum
    is completed. Raises NotSegmentable."""
    flags, gso_type, _, gso_size, checksum_start, checksum_offset = VIRTIO_NET_HDR.unpack_from(frame)
    unfinished = bool(flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
    kind = gso_type & ~VIRTIO_NET_HDR_GSO_ECN
    if kind == VIRTIO_NET_HDR_GSO_NONE:
        if unfinished:
            return [_completed(frame, HEADER + checksum_start, checksum_offset)]
        return [_CLEAN + bytes(frame[HEADER:])]
    if kind not in _KINDS or not gso_size:
        raise NotSegmentable(f"gso_type {gso_type}, gso_size {gso_size}")
    headers = _headers(memoryview(frame), *_KINDS[kind], HEADER + checksum_start if unfinished else None)
    payload = memoryview(frame)[headers.length :]
    if (longest := headers.length - headers.network + min(gso_size, len(payload))) > _PACKET_MAX:
        raise NotSegmentable(f"segments of {longest} bytes")
    starts = range(0, len(payload), gso_size) or (0,)
    return [headers.written(payload[at : at + gso_size], at, number, at == starts[-1]) for number, at in
            enumerate(starts)]  # fmt: skip


def _completed(frame: bytes | memoryview, start: int, offset: int) -> bytes:
    """Return a frame whose checksum, ``offset`` bytes from ``start``, is complete: it is over everything from
    ``start`` on, and its place has the sum of what is before that."""
    field = start + offset
    if field + 2 > len(frame):
        raise NotSegmentable(f"its checksum is at {field} of {len(frame)} bytes")
    checksum = complement(ones_sum(frame[start:])) or 0xFFFF
    return b"".join((_CLEAN, frame[HEADER:field], checksum.to_bytes(2), frame[field + 2 :]))


@dataclass(frozen=True, slots=True)
class _Headers:
    """The headers of a super-frame, virtio_net_hdr included."""

    head: bytes
    """All of them, with an empty virtio_net_hdr, and zero in place of the transport checksum."""
    network: int
    """Bytes before the IP header."""
    transport: int
    """Bytes before the transport header."""
    ip_length: Callable[[bytearray, int, int, int], None]
    """Writes what an IP header has of its segment."""
    tcp: bool
    """True for TCP, False for UDP."""
    pseudo: int
    """The sum of the pseudo-header, without the length."""

    @property
    def length(self) -> int:
        """Bytes of the headers."""
        return len(self.head)

    def written(self, payload: memoryview, at: int, number: int, last: bool) -> bytes:
        """Return the segment with this payload, ``at`` bytes and ``number`` segments after the first."""
        head, transport = bytearray(self.head), self.transport
        length = len(head) - transport + len(payload)
        self.ip_length(head, self.network, len(head) - self.network + len(payload), number)
        if self.tcp:
            (sequence,) = struct.unpack_from("!I", head, transport + _TCP_SEQUENCE)
            struct.pack_into("!I", head, transport + _TCP_SEQUENCE, (sequence + at) & 0xFFFFFFFF)
            if not last:
                head[transport + _TCP_FLAGS] &= ~_FIN_PSH & 0xFF
            if number:
                head[transport + _TCP_FLAGS] &= ~_CWR & 0xFF
        else:
            struct.pack_into("!H", head, transport + 4, length)
        checksum = complement(self.pseudo + length + ones_sum(head[transport:]) + ones_sum(payload))
        field = transport + (_TCP_CHECKSUM if self.tcp else _UDP_CHECKSUM)
        # A UDP checksum of 0 means none; the kernel changes 0 here for UDP only.
        struct.pack_into("!H", head, field, checksum if self.tcp else checksum or 0xFFFF)
        return bytes(head) + payload


def _headers(frame: memoryview, ethertype: bytes | None, protocol: int, transport: int | None) -> _Headers:
    """Return the headers of a super-frame of these protocols, any version of IP for the ethertype None.

    ``transport`` is where its transport header starts, if the virtio_net_hdr has that."""
    start, found = network(frame)
    if found not in ((IPV4, IPV6) if ethertype is None else (ethertype,)):
        raise NotSegmentable(f"EtherType {found.hex()}")
    shortest, ip_length = _IP[found]
    packet = frame[start:]
    if len(packet) < shortest:
        raise NotSegmentable("it ends in its IP header")
    if found == IPV4:
        actual, after, addresses = packet[9], (packet[0] & 0xF) * 4, packet[12:20]
    else:
        (actual, after, _), addresses = upper(packet), packet[8:40]
    complete = transport is None
    if transport is None:
        transport = start + after
    tcp = protocol == _TCP
    end = transport + (_TCP_HEADER if tcp else _UDP_HEADER)
    if tcp and end <= len(frame):
        end = transport + max(_TCP_HEADER, (frame[transport + _TCP_DATA_OFFSET] >> 4) * 4)
    if actual != protocol or transport < start + shortest or end > len(frame):
        raise NotSegmentable(f"protocol {actual}, headers of {end} of {len(frame)} bytes")
    head = bytearray(frame[:end])
    head[:HEADER] = _CLEAN
    field = transport + (_TCP_CHECKSUM if tcp else _UDP_CHECKSUM)
    # An unfinished checksum is the sum of the pseudo-header. A wrong one stays wrong, as in the kernel.
    pseudo = int.from_bytes(head[field : field + 2]) - (len(frame) - transport)
    head[field : field + 2] = bytes(2)
    if complete:
        pseudo = ones_sum(addresses) + protocol
    return _Headers(bytes(head), start, transport, ip_length, tcp, pseudo)


def _ipv4_length(head: bytearray, at: int, length: int, number: int) -> None:
    """Write the length, identification and checksum of an IPv4 header ``at`` bytes into the headers."""
    end = at + (head[at] & 0xF) * 4
    (identification,) = struct.unpack_from("!H", head, at + 4)
    struct.pack_into("!HH", head, at + 2, length, (identification + number) & 0xFFFF)
    struct.pack_into("!H", head, at + 10, 0)
    struct.pack_into("!H", head, at + 10, complement(ones_sum(head[at:end])))


def _ipv6_length(head: bytearray, at: int, length: int, _number: int) -> None:
    """Write the payload length of an IPv6 header ``at`` bytes into the headers."""
    struct.pack_into("!H", head, at + 4, length - IPV6_HEADER)


_KINDS: Final = {
    VIRTIO_NET_HDR_GSO_TCPV4: (IPV4, _TCP),
    VIRTIO_NET_HDR_GSO_TCPV6: (IPV6, _TCP),
    VIRTIO_NET_HDR_GSO_UDP_L4: (None, _UDP),
}
"""By gso_type, the EtherType (None for either version of IP) and the transport protocol."""
_IP: Final = {IPV4: (IPV4_HEADER, _ipv4_length), IPV6: (IPV6_HEADER, _ipv6_length)}
"""By EtherType, the bytes of the shortest header, and the function that writes what is a segment's own."""
