"""The headers before a UDP payload, and which datagram may follow which in a super-frame.

A frame as read from a TAP device starts with a ``virtio_net_hdr``, then Ethernet, IP and UDP: 52 bytes before
the payload over IPv4, 72 over IPv6. All headers of a datagram that may follow another are known beforehand:
the IPv4 identification is one more, the IPv4 header checksum therefore one less (ones' complement: the sum
stays the same), and everything else is the same, bit by bit. So, with the headers read as big-endian numbers,

    follower - leader == step         (IPv6, which has neither field: step 0)

covers nearly every condition: addresses, ports, TOS, TTL, DF, flow label and length are equal, and the
follower's own header checksum and partial UDP checksum are right if the leader's are. A corrupt follower is
not joined, and stays corrupt. If it were joined, the receiving kernel would write correct headers before it,
and a corrupt datagram would become a valid one.

The difference does not cover two conditions. The leader itself must be right: ``leader``. And neither
identification nor checksum may wrap within a run: ``countable``. The carry would change the field before, and
a datagram with identification 0 and a total length that is wrong by one would seem to follow 65535.

Checksums have two representations of zero. The kernel writes header checksums as 0 to 0xfffe and
pseudo-header sums as 1 to 0xffff; a datagram with the other representation would arrive changed, and is not
joined.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import Any, Final

from epaird.dataplane.frames import ETHERNET, HEADER
from epaird.kernel.abi import (
    VIRTIO_NET_HDR,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_NONE,
    VIRTIO_NET_HDR_GSO_UDP_L4,
)

_IPV4: Final = 20
_IPV6: Final = 40
_UDP: Final = 8
_CHECKSUM_OFFSET: Final = 6
_PROTOCOL: Final = 17
_DONT_FRAGMENT: Final = 0x4000

Fields = tuple[Any, ...]
"""The fields of a leader's headers; their order is private to the class that unpacked them."""


class UdpHeaders(ABC):
    """UDP over one version of IP."""

    length: int
    """Bytes before the payload."""
    largest: int
    """Most UDP payload in one super-frame, in bytes."""
    step: int
    """The difference between the headers of two successive datagrams, read as numbers."""
    constant_words: tuple[int, ...]
    """Offsets of the 8-byte words that hold all constant bytes, the likeliest to differ first."""
    counting_word: int | None
    """The offset of the 8-byte word that starts with the identification and ends with the checksum."""
    flow_word: int
    """The offset of the 8 bytes that distinguish flows: the destination address' end and both ports."""

    def __init__(self, ip: int, ethertype: int) -> None:
        """``ip`` is the length of the IP header, in bytes."""
        self._transport = HEADER + ETHERNET + ip
        self.length = self._transport + _UDP
        self._ethertype = ethertype
        self.lone = self._virtio(0, VIRTIO_NET_HDR_GSO_NONE, 0)
        """The virtio_net_hdr of a single datagram whose UDP checksum the kernel is to complete."""

    def gso(self, segment: int) -> bytes:
        """Return the virtio_net_hdr of a super-frame whose segments have ``segment`` bytes of payload."""
        return self._virtio(self.length - HEADER, VIRTIO_NET_HDR_GSO_UDP_L4, segment)

    @abstractmethod
    def leader(self, head: memoryview, frame: int) -> Fields | None:
        """Return the fields of a frame of ``frame`` bytes that starts with ``head``, if it may lead a run.

        It may when it is plain UDP with a checksum for the kernel to complete, unfragmented, without a
        tag, options or padding, its lengths agree, and its checksums are as the kernel would write them."""

    @abstractmethod
    def countable(self, fields: Fields) -> int:
        """Return how many datagrams, the leader included, can follow each other before a field wraps."""

    @abstractmethod
    def written(self, fields: Fields, virtio: bytes, after: int, more: int) -> bytes:
        """Return the virtio_net_hdr and the headers of the datagram ``after`` places after the leader, made
        ``more`` bytes longer."""

    def _virtio(self, hdr_len: int, gso_type: int, gso_size: int) -> bytes:
        csum_start = self._transport - HEADER
        fields = VIRTIO_NET_HDR_F_NEEDS_CSUM, gso_type, hdr_len, gso_size, csum_start, _CHECKSUM_OFFSET
        return VIRTIO_NET_HDR.pack(*fields)


class _UdpOverIPv4(UdpHeaders):
    largest = 65507
    step = (1 << 8 * (52 - 30)) - (1 << 8 * (52 - 36))
    constant_words = (44, 36, 20, 0, 8, 16)
    counting_word = 28
    flow_word = 40
    # virtio_net_hdr, MAC addresses, EtherType; version to TOS, length, identification, fragment, TTL and
    # protocol, checksum, addresses; ports, length, checksum.
    _struct = struct.Struct(">10s12sHHHHHHHQIHH")

    def leader(self, head: memoryview, frame: int) -> Fields | None:
        fields = self._struct.unpack(head)
        virtio, _, kind, tos, total, ident, fragment, ttl, check, addresses, _, udp, partial = fields
        if (
            virtio == self.lone
            and kind == self._ethertype
            and tos >> 8 == 0x45
            and total == frame - HEADER - ETHERNET
            and fragment | _DONT_FRAGMENT == _DONT_FRAGMENT
            and ttl & 0xFF == _PROTOCOL
            and (tos + total + ident + fragment + ttl + check + addresses) % 0xFFFF == 0
            and check != 0xFFFF
            and _UDP < udp == total - _IPV4
            and partial == (addresses + _PROTOCOL + udp - 1) % 0xFFFF + 1
        ):
            return fields
        return None

    def countable(self, fields: Fields) -> int:
        ident: int = fields[5]
        check: int = fields[8]
        return 1 + min(0xFFFF - ident, check)

    def written(self, fields: Fields, virtio: bytes, after: int, more: int) -> bytes:
        _, macs, kind, tos, total, ident, fragment, ttl, check, addresses, ports, udp, partial = fields
        check = (check - after - more) % 0xFFFF
        partial = (partial + more - 1) % 0xFFFF + 1
        total += more
        ident += after
        udp += more
        return self._struct.pack(
            virtio, macs, kind, tos, total, ident, fragment, ttl, check, addresses, ports, udp, partial
        )


class _UdpOverIPv6(UdpHeaders):
    largest = 65527
    step = 0
    constant_words = (64, 56, 48, 40, 32, 24, 0, 8, 16)
    counting_word = None
    flow_word = 60
    # virtio_net_hdr, MAC addresses, EtherType; version to flow label, length, next header and hop limit,
    # addresses; ports, length, checksum.
    _struct = struct.Struct(">10s12sHIHH32sIHH")

    def leader(self, head: memoryview, frame: int) -> Fields | None:
        fields = self._struct.unpack(head)
        virtio, _, kind, label, length, hops, addresses, _, udp, partial = fields
        if (
            virtio == self.lone
            and kind == self._ethertype
            and label >> 28 == 6
            and length == frame - HEADER - ETHERNET - _IPV6
            and hops >> 8 == _PROTOCOL
            and _UDP < udp == length
            and partial == (int.from_bytes(addresses) + _PROTOCOL + udp - 1) % 0xFFFF + 1
        ):
            return fields
        return None

    def countable(self, fields: Fields) -> int:  # noqa: ARG002
        return 1 << 16

    def written(self, fields: Fields, virtio: bytes, after: int, more: int) -> bytes:  # noqa: ARG002
        _, macs, kind, label, length, hops, addresses, ports, udp, partial = fields
        partial = (partial + more - 1) % 0xFFFF + 1
        length += more
        udp += more
        return self._struct.pack(virtio, macs, kind, label, length, hops, addresses, ports, udp, partial)


IPV4: Final[UdpHeaders] = _UdpOverIPv4(_IPV4, 0x0800)
IPV6: Final[UdpHeaders] = _UdpOverIPv6(_IPV6, 0x86DD)
