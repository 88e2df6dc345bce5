from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from epaird.dataplane.frames import HEADER
from epaird.dataplane.headers import (
    FRAGMENT_OFFSET,
    ICMP_ERRORS,
    ICMPV6,
    IPV4_HEADER,
    IPV6,
    IPV6_HEADER,
    complement,
    network,
    ones_sum,
    tagged,
    upper,
)
from epaird.dataplane.headers import ICMP as ICMP_NUMBER

V6 = IPv6(src="fd00::1", dst="fd00::2")


@pytest.mark.parametrize(
    "tags", [(), (Dot1Q(vlan=1),), (Dot1AD(vlan=1),), (Dot1AD(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3))]
)
def test_the_network_header_is_behind_the_tags(tags: tuple[Packet, ...]) -> None:
    packet = Ether()
    for tag in tags:
        packet /= tag
    frame = memoryview(bytes(HEADER) + bytes(packet / V6 / UDP()))
    start, ethertype = network(frame)
    assert (start, ethertype) == (HEADER + 14 + 4 * len(tags), IPV6)
    assert bytes(frame[start:]) == bytes(V6 / UDP())
    assert tagged(frame) == bool(tags)


def test_a_frame_that_ends_in_its_tags_has_no_network_header() -> None:
    frame = bytes(HEADER) + bytes(Ether() / Dot1Q(vlan=1, type=0x88B5))
    assert network(memoryview(frame)) == (len(frame), b"\x88\xb5")
    for length in range(HEADER + 14, len(frame)):
        assert network(memoryview(frame[:length])) == (length, b"")


@pytest.mark.parametrize(
    ("extensions", "length", "fragment"),
    [
        ((), 0, 0),
        ((IPv6ExtHdrHopByHop(),), 8, 0),
        ((IPv6ExtHdrDestOpt(options=[]), IPv6ExtHdrRouting(addresses=["fd00::3"])), 32, 0),
        ((IPv6ExtHdrFragment(m=1),), 8, 0),
        ((AH(nh=6, icv=bytes(12), payloadlen=4),), 24, 0),
        ((IPv6ExtHdrFragment(offset=185),), 8, 185),
    ],
)
def test_extension_headers_are_skipped(extensions: tuple[Packet, ...], length: int, fragment: int) -> None:
    packet = V6
    for extension in extensions:
        packet /= extension
    assert upper(memoryview(bytes(packet / TCP()))) == (6, 40 + length, fragment)


@given(st.binary(min_size=40, max_size=200))
def test_any_bytes_can_be_walked(packet: bytes) -> None:
    assert upper(packet).start >= 40


def test_an_extension_header_that_ends_the_packet_is_skipped() -> None:
    packet = bytes(V6 / IPv6ExtHdrDestOpt(nh=59))
    assert len(packet) == IPV6_HEADER + 8
    assert upper(packet) == (59, 48, 0)
    assert upper(packet[:-1]) == (60, 40, 0)


def test_numbers_and_sizes_are_those_of_the_protocols() -> None:
    assert (len(IP()), len(IPv6())) == (IPV4_HEADER, IPV6_HEADER)
    assert bytes(IP() / ICMP())[9] == ICMP_NUMBER
    assert bytes(IPv6() / ICMPv6EchoRequest())[6] == ICMPV6
    quoted = bytes(IP())
    quoting = {kind for kind in range(256) if IPerror in ICMP(bytes((kind,)) + bytes(7) + quoted)}
    assert quoting == ICMP_ERRORS


@given(st.integers(0, 0x1FFF), st.integers(0, 7))
def test_the_offset_of_a_fragment_is_told_from_its_flags(offset: int, flags: int) -> None:
    field = int.from_bytes(bytes(IP(frag=offset, flags=flags))[6:8])
    assert field & FRAGMENT_OFFSET == offset


@given(st.binary(min_size=1, max_size=80).filter(any))
@example(b"\xff\xff")
@example(b"\xff\xfe\0\1")
def test_the_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert complement(ones_sum(data)) == ~total & 0xFFFF
