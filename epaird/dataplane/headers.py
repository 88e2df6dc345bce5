"""The headers of a frame: its VLAN tags, the IP header behind them, and checksums (RFC 1071)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from epaird.dataplane.frames import ETHERNET, HEADER, VLAN_TAG

IPV4: Final = b"\x08\x00"
"""EtherType of IPv4."""
IPV6: Final = b"\x86\xdd"
"""EtherType of IPv6."""
IPV4_HEADER: Final = 20
"""Bytes of an IPv4 header without options."""
IPV6_HEADER: Final = 40
"""Bytes of an IPv6 header."""
ICMP: Final = 1
"""Protocol number of ICMP."""
ICMPV6: Final = 58
"""Protocol number of ICMPv6."""
ICMP_ERRORS: Final = frozenset((3, 4, 5, 11, 12))
"""Types of ICMP messages that are errors and quote a packet: unreachable, source quench, redirect, time
exceeded, parameter problem (icmp_is_err)."""
FRAGMENT_OFFSET: Final = 0x1FFF
"""The bits of an IPv4 header's flags and fragment offset that are the offset."""

_TAGS: Final = (b"\x81\x00", b"\x88\xa8")
"""EtherTypes of 802.1Q and 802.1ad: the tags that the kernel may keep apart from a frame (eth_type_vlan)."""
_ETHERTYPE: Final = slice(HEADER + ETHERNET - 2, HEADER + ETHERNET)

_HOP_BY_HOP: Final = 0
_ROUTING: Final = 43
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_DESTINATION: Final = 60
_EXTENSIONS: Final = frozenset((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION))
"""The headers that ipv6_skip_exthdr() skips (net/ipv6/exthdrs_core.c)."""
_EXTENSIONS_MAX: Final = 16
"""Most extension headers that are walked through."""


class Upper(NamedTuple):
    """The header behind the IPv6 header and its extension headers."""

    protocol: int
    """Its number; that of an extension header where the packet ends too early."""
    start: int
    """Bytes of the packet before it."""
    fragment: int
    """The fragment offset in units of 8 bytes; 0 for a packet that is no fragment."""


def tagged(frame: memoryview) -> bool:
    """Return whether a frame, virtio_net_hdr included, starts with a VLAN tag."""
    return bytes(frame[_ETHERTYPE]) in _TAGS


def network(frame: memoryview) -> tuple[int, bytes]:
    """Return the bytes before the network header, virtio_net_hdr and VLAN tags included, and the EtherType
    before it. The EtherType is empty where the frame ends too early."""
    start, end = HEADER + ETHERNET, len(frame)
    ethertype = bytes(frame[start - 2 : start])
    while ethertype in _TAGS and start <= end:
        start += VLAN_TAG
        ethertype = bytes(frame[start - 2 : start])
    return (start, ethertype) if start <= end else (end, b"")


def upper(packet: Sequence[int]) -> Upper:
    """Return the header behind an IPv6 packet's extension headers; ``packet`` has at least its IPv6 header.

    The header behind a fragment header of a later fragment is not walked: it is payload."""
    protocol, start, fragment = packet[6], IPV6_HEADER, 0
    for _ in range(_EXTENSIONS_MAX):
        if protocol not in _EXTENSIONS or start + 8 > len(packet) or fragment:
            break
        following, length = packet[start], packet[start + 1]
        if protocol == _FRAGMENT:
            fragment = (packet[start + 2] << 8 | packet[start + 3]) >> 3
            length = 8
        elif protocol == _AUTHENTICATION:
            length = (length + 2) * 4
        else:
            length = (length + 1) * 8
        protocol, start = following, start + length
    return Upper(protocol, start, fragment)


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """Return a number with the ones' complement sum of 16-bit words of data."""
    return int.from_bytes(data) << (len(data) % 2 * 8)


def complement(total: int) -> int:
    """Return the checksum of data with this sum, which is not all zeros: 0 to 0xfffe."""
    return 0xFFFF - (total % 0xFFFF or 0xFFFF)


def update_checksum(packet: memoryview | bytearray, at: int, before: bytes, after: bytes) -> None:
    """Update the checksum ``at`` bytes into a packet where ``before`` is replaced by ``after`` (RFC 1624).

    Both are whole 16-bit words at even offsets of what the checksum covers."""
    (checksum,) = struct.unpack_from("!H", packet, at)
    total = (checksum ^ 0xFFFF) - int.from_bytes(before) + int.from_bytes(after)
    struct.pack_into("!H", packet, at, complement(total))
