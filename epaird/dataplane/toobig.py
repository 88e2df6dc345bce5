"""The answer to a packet that is too long for the peer: path MTU discovery across a cable.

Two halves may have different MTUs. A cable has no address to answer from. So, as from the kernel's own
tunnels (iptunnel_pmtud_build_icmp, net/ipv4/ip_tunnel_core.c), the answer has the packet's destination as its
source. The sender makes its packets smaller from then on.

A packet behind VLAN tags is answered behind the same tags. The MTU in the answer is the cable's as long as
its packets fit behind so many tags: two, because the length limit has room for one tag and does not count
the outer one (:class:`epaird.dataplane.links.EthernetLink`). Each further tag takes 4 bytes.

Packets are not answered that a router would not answer (RFC 1812, RFC 4443), nor those whose destination
cannot be the source of an answer: errors, later fragments, packets that are not from and to one host.
"""

from __future__ import annotations

import struct
from typing import Final

from epaird.dataplane.frames import ETHERNET, HEADER, VLAN_TAG
from epaird.dataplane.headers import (
    FRAGMENT_OFFSET,
    ICMP,
    ICMP_ERRORS,
    ICMPV6,
    IPV4,
    IPV4_HEADER,
    IPV6,
    IPV6_HEADER,
    complement,
    network,
    ones_sum,
    upper,
)

_UNCOUNTED_TAGS: Final = 2
"""VLAN tags before a packet that leave the whole MTU to the packet."""
_MTU_MIN: Final = 68
"""The smallest MTU of IPv4 in bytes (RFC 791)."""
_MTU6_MIN: Final = 1280
"""The smallest MTU of IPv6 in bytes (RFC 8200)."""
_DONT_FRAGMENT: Final = 0x4000
_ERRORS6: Final = frozenset((*range(128), 137))
"""Types of ICMPv6 messages that are not answered: errors, and a redirect (RFC 4443, 2.4)."""
_QUOTED: Final = 548
"""Bytes of the packet that an ICMP message quotes: 576 bytes in all (RFC 1812)."""
_QUOTED6: Final = 1232
"""Bytes of the packet that an ICMPv6 message quotes: 1280 bytes in all (RFC 4443)."""
_LOOPBACK6: Final = bytes(15) + b"\1"


def too_big(frame: memoryview, mtu: int) -> bytes | None:
    """Return the frame, virtio_net_hdr included, that informs a sender of an IP packet longer than the
    cable's ``mtu`` bytes allow; None when the sender allows fragments, and for frames that are not
    answered."""
    if len(frame) < HEADER + ETHERNET or (frame[HEADER] | frame[HEADER + 6]) & 1:
        return None
    start, ethertype = network(frame)
    tags = (start - HEADER - ETHERNET) // VLAN_TAG
    mtu -= max(0, tags - _UNCOUNTED_TAGS) * VLAN_TAG
    packet = frame[start:]
    answer = None
    if ethertype == IPV4 and mtu >= _MTU_MIN:
        answer = _answer4(packet, mtu)
    elif ethertype == IPV6 and mtu >= _MTU6_MIN:
        answer = _answer6(packet, mtu)
    if answer is None:
        return None
    macs = bytes(frame[HEADER + 6 : HEADER + 12]) + bytes(frame[HEADER : HEADER + 6])
    return bytes(HEADER) + macs + bytes(frame[HEADER + 12 : start]) + answer


def _answer4(packet: memoryview, mtu: int) -> bytes | None:
    if len(packet) <= IPV4_HEADER or packet[0] >> 4 != 4:
        return None
    header_length = (packet[0] & 0xF) * 4
    total, _, fragment = struct.unpack_from("!HHH", packet, 2)
    if not mtu < total <= len(packet) or header_length < IPV4_HEADER:
        return None
    if not fragment & _DONT_FRAGMENT or fragment & FRAGMENT_OFFSET:
        return None
    if not (_is_host(packet[12:16]) and _is_host(packet[16:20])):
        return None
    if packet[9] == ICMP and packet[header_length] in ICMP_ERRORS:
        return None  # an error is never answered with another
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + bytes(packet[: min(total, _QUOTED)])
    message = message[:2] + _checksum(message) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0xC0, IPV4_HEADER + len(message), 0, 0, 64, ICMP, 0)
    header += bytes(packet[16:20]) + bytes(packet[12:16])
    return header[:10] + _checksum(header) + header[12:] + message


def _answer6(packet: memoryview, mtu: int) -> bytes | None:
    if len(packet) <= IPV6_HEADER or packet[0] >> 4 != 6:
        return None
    total = IPV6_HEADER + int.from_bytes(packet[4:6])
    if not mtu < total <= len(packet):
        return None
    if not (_is_host6(packet[8:24]) and _is_host6(packet[24:40])):
        return None
    protocol, start, fragment = upper(packet)
    if fragment or start >= total or (protocol == ICMPV6 and packet[start] in _ERRORS6):
        return None
    addresses = bytes(packet[24:40]) + bytes(packet[8:24])
    message = struct.pack("!BBHI", 2, 0, 0, mtu) + bytes(packet[: min(total, _QUOTED6)])
    pseudo = addresses + struct.pack("!IxxxB", len(message), ICMPV6)
    message = message[:2] + _checksum(pseudo + message) + message[4:]
    return struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 64) + addresses + message


def _is_host(address: memoryview) -> bool:
    """Return whether an IPv4 address is that of one host on a network."""
    return address[0] not in (0, 127) and address[0] & 0xF0 != 0xE0 and address != b"\xff" * 4


def _is_host6(address: memoryview) -> bool:
    """Return whether an IPv6 address is that of one host on a network."""
    return address[0] != 0xFF and address not in (bytes(16), _LOOPBACK6)


def _checksum(data: bytes) -> bytes:
    return complement(ones_sum(data)).to_bytes(2)
