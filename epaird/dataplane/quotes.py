"""ICMP errors that a reflector returns: the packet that they quote is reflected too.

A reflected packet comes to its sender from the address B that it was sent to. An error about it is therefore
sent to B, and quotes a packet from B. The sender's kernel looks for the socket that sent the quoted packet,
which was sent *to* B. So in the error's quote, too, the addresses change places; ports stay, as they stay in
every reflected packet.

The error goes to the host that the quoted packet was from before it was reflected. That is nearly always the
host that reported it. It is another one where the reflected packet was forwarded and a router on its way
reported the error.

All checksums stay valid. Swapping two addresses changes no sum, because both are at even offsets and the sums
of the quoted packet include both. If the error is redirected to another host, the sums that include its
destination are updated (RFC 1624).
"""

from __future__ import annotations

import struct
from typing import Final

from epaird.dataplane.frames import HEADER
from epaird.dataplane.headers import (
    FRAGMENT_OFFSET,
    ICMP_ERRORS,
    IPV4_HEADER,
    IPV6_HEADER,
    update_checksum,
)
from epaird.kernel.abi import VIRTIO_NET_HDR_F_NEEDS_CSUM

_ERRORS6: Final = (1, 2, 3, 4)
"""ICMPv6 messages that quote a packet: unreachable, too big, time exceeded, parameter problem."""
_ICMP_HEADER: Final = 8

_CHECKSUM4: Final = HEADER + 10
_SOURCE4: Final = slice(HEADER + 12, HEADER + 16)
_DESTINATION4: Final = slice(HEADER + 16, HEADER + 20)
_FRAGMENT4: Final = HEADER + 6
_CHECKSUM6: Final = HEADER + IPV6_HEADER + 2
_SOURCE6: Final = slice(HEADER + 8, HEADER + 24)
_DESTINATION6: Final = slice(HEADER + 24, HEADER + 40)


def reflect_quote4(packet: memoryview) -> None:
    """Reflect the quote of an ICMP message, whose own addresses have been swapped, in place.

    ``packet`` is a virtio_net_hdr and an IPv4 packet with a whole header. Nothing is changed where it is no
    error, or not one about a reflected packet."""
    icmp = HEADER + (packet[HEADER] & 0xF) * 4
    quote = icmp + _ICMP_HEADER
    if len(packet) < quote + IPV4_HEADER or packet[icmp] not in ICMP_ERRORS or packet[quote] >> 4 != 4:
        return
    (fragment,) = struct.unpack_from("!H", packet, _FRAGMENT4)
    sender, receiver = bytes(packet[quote + 12 : quote + 16]), bytes(packet[quote + 16 : quote + 20])
    if fragment & FRAGMENT_OFFSET or packet[_SOURCE4] != sender or receiver[0] & 0xF0 == 0xE0:
        return
    packet[quote + 12 : quote + 20] = receiver + sender
    if packet[_DESTINATION4] != receiver:
        update_checksum(packet, _CHECKSUM4, bytes(packet[_DESTINATION4]), receiver)
        packet[_DESTINATION4] = receiver


def reflect_quote6(packet: memoryview) -> None:
    """Reflect the quote of an ICMPv6 message likewise; its header is directly behind the IPv6 header."""
    icmp = HEADER + IPV6_HEADER
    quote = icmp + _ICMP_HEADER
    if len(packet) < quote + IPV6_HEADER or packet[icmp] not in _ERRORS6 or packet[quote] >> 4 != 6:
        return
    sender, receiver = bytes(packet[quote + 8 : quote + 24]), bytes(packet[quote + 24 : quote + 40])
    if packet[_SOURCE6] != sender or receiver[0] == 0xFF:
        return
    packet[quote + 8 : quote + 40] = receiver + sender
    before = bytes(packet[_DESTINATION6])
    if before != receiver:
        if packet[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM:
            # The field has the sum itself, not its complement: what is added and what is subtracted change.
            update_checksum(packet, _CHECKSUM6, receiver, before)
        else:
            update_checksum(packet, _CHECKSUM6, before, receiver)
        packet[_DESTINATION6] = receiver
