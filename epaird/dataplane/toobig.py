"""The answer to a packet that is too long for the peer: path MTU discovery across a cable.

Two halves may have different MTUs. A cable has no address to answer from. So, as from the kernel's own
tunnels (iptunnel_pmtud_build_icmp, net/ipv4/ip_tunnel_core.c), the answer has the packet's destination as its
source. The sender makes its packets smaller from then on.
"""

from __future__ import annotations

import struct
from typing import Final

from epaird.dataplane.frames import ETHERNET, HEADER

_V4: Final = HEADER + ETHERNET
_DONT_FRAGMENT: Final = 0x4000
_FRAGMENT_OFFSET: Final = 0x1FFF
_ICMP: Final = 1
_ICMP6: Final = 58
_QUERIES: Final = frozenset((0, 8, 13, 14))
"""Types of ICMP messages that are no errors; an error is never answered with another."""
_QUOTED: Final = 548
"""Bytes of the packet that an ICMP message quotes: 576 bytes in all (RFC 1812)."""
_QUOTED6: Final = 1232
"""Bytes of the packet that an ICMPv6 message quotes: 1280 bytes in all (RFC 4443)."""


def too_big(frame: memoryview, mtu: int) -> bytes | None:
    """Return the frame, virtio_net_hdr included, that informs a sender of an IP packet longer than ``mtu``
    bytes; None when the sender allows fragments, and for frames other than IP."""
    if len(frame) < _V4 + 28 or frame[HEADER] & 1 or mtu < 68:
        return None
    ethertype = bytes(frame[HEADER + 12 : HEADER + 14])
    head = bytes(HEADER) + bytes(frame[HEADER + 6 : HEADER + 12]) + bytes(frame[HEADER : HEADER + 6])
    packet = frame[_V4:]
    if ethertype == b"\x08\x00" and packet[0] == 0x45:
        answer = _answer4(packet, mtu)
    elif ethertype == b"\x86\xdd" and packet[0] >> 4 == 6 and len(packet) >= 48 and mtu >= 1280:
        answer = _answer6(packet, mtu)
    else:
        return None
    return None if answer is None else head + ethertype + answer


def _answer4(packet: memoryview, mtu: int) -> bytes | None:
    (fragment,) = struct.unpack_from("!H", packet, 6)
    if not fragment & _DONT_FRAGMENT or fragment & _FRAGMENT_OFFSET:
        return None
    if packet[9] == _ICMP and packet[20] not in _QUERIES:
        return None
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + bytes(packet[:_QUOTED])
    message = message[:2] + _checksum(message) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(message), 0, 0, 64, _ICMP, 0)
    header += bytes(packet[16:20]) + bytes(packet[12:16])
    return header[:10] + _checksum(header) + header[12:] + message


def _answer6(packet: memoryview, mtu: int) -> bytes | None:
    if packet[6] == _ICMP6 and packet[40] < 128:
        return None
    addresses = bytes(packet[24:40]) + bytes(packet[8:24])
    message = struct.pack("!BBHI", 2, 0, 0, mtu) + bytes(packet[:_QUOTED6])
    pseudo = addresses + struct.pack("!IxxxB", len(message), _ICMP6)
    message = message[:2] + _checksum(pseudo + message) + message[4:]
    return struct.pack("!IHBB", 6 << 28, len(message), _ICMP6, 64) + addresses + message


def _checksum(data: bytes) -> bytes:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
