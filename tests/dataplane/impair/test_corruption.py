"""Corrupted segments: which bits are flipped, against scapy's checksums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.corruption import corrupt
from epaird.dataplane.impair.pieces import shape
from epaird.dataplane.segmenting import segment
from tests.dataplane.superframes import UDP as UDP_PROTOCOL
from tests.dataplane.superframes import Offloaded, offloaded

PLAIN = bytes(HEADER)
ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")


def corrupted(frame: bytes, number: int, bit: int) -> bytes:
    view = memoryview(frame).toreadonly()
    return corrupt(view, shape(view, len(frame)), number, bit)


def flipped(frame: bytes) -> list[int]:
    """Return the bits that can be flipped in a frame of one segment: their numbers in the Ethernet frame."""
    (before,) = segment(frame)
    made: list[int] = []
    for bit in range(len(frame) * 8):
        after = corrupted(frame, 0, bit)
        changed = int.from_bytes(before[HEADER:]) ^ int.from_bytes(after[HEADER:])
        assert len(after) == len(before)
        assert changed.bit_count() <= 1
        if changed:
            made.append((len(after) - HEADER) * 8 - changed.bit_length())
    return sorted(set(made))


def octets(frame: Packet) -> list[int]:
    """Return the bytes of a frame in which all bits can be flipped; no other bit can."""
    bits = flipped(PLAIN + bytes(frame))
    found = sorted({bit // 8 for bit in bits})
    assert len(bits) == 8 * len(found)
    return found


@given(offloaded(), st.integers(0, 1 << 64), st.data())
def test_one_bit_of_the_finished_segment_is_flipped(frame: Offloaded, bit: int, data: st.DataObject) -> None:
    sent = bytes(frame)
    whole = segment(sent)
    number = data.draw(st.integers(0, len(whole) - 1))
    made = corrupted(sent, number, bit)
    assert made[:HEADER] == PLAIN
    assert (int.from_bytes(made) ^ int.from_bytes(whole[number])).bit_count() == 1
    transport = (
        len(sent)
        - len(frame.payload)
        - (8 if frame.protocol == UDP_PROTOCOL else 20 + len(frame.tcp_options))
    )
    assert made[:transport] == whole[number][:transport]


@given(offloaded(), st.integers(0, 1 << 64))
def test_scapy_finds_a_wrong_checksum(frame: Offloaded, bit: int) -> None:
    sent = bytes(frame)
    for made, right in ((segment(sent)[-1], True), (corrupted(sent, len(segment(sent)) - 1, bit), False)):
        parsed = Ether(made[HEADER:])
        layer = parsed[UDP if frame.protocol == UDP_PROTOCOL else TCP]
        before = layer.chksum
        del layer.chksum
        again = Ether(bytes(parsed))[type(layer)].chksum
        assert (before % 0xFFFF == again % 0xFFFF) is right


UNCHECKED = UDP(sport=1, dport=2, chksum=0)
PAYLOAD = Raw(b"0123456789")
CASES = {
    "TCP": (IP() / TCP() / PAYLOAD, 20, [*range(12), *range(13, 30)]),
    "TCP without data": (IP() / TCP(), 20, [*range(12), *range(13, 20)]),
    "TCP over IPv6": (IPv6() / TCP() / PAYLOAD, 40, [*range(12), *range(13, 30)]),
    "UDP": (IP() / UDP() / PAYLOAD, 20, [0, 1, 2, 3, *range(8, 18)]),
    "UDP without data": (IP() / UDP(), 20, [0, 1, 2, 3]),
    "UDP without checksum": (IP() / UNCHECKED / PAYLOAD, 20, range(8, 18)),
    "UDP with neither": (IP() / UNCHECKED, 20, [0, 1, 2, 3]),
    "UDP over IPv6": (IPv6() / UDP() / PAYLOAD, 40, [0, 1, 2, 3, *range(8, 18)]),
    "UDP in a longer packet": (IP() / UDP(len=12) / PAYLOAD, 20, [0, 1, 2, 3, *range(8, 12)]),
    "UDP with a length of 0": (IP() / UDP(len=0) / PAYLOAD, 20, [0, 1, 2, 3]),
    "UDP that ends early": (IP(proto=17) / Raw(b"1234567"), 20, range(7)),
    "options": (IP(options=[IPOption_NOP()] * 4) / UDP() / PAYLOAD, 24, [0, 1, 2, 3, *range(8, 18)]),
    "an extension header": (IPv6() / IPv6ExtHdrDestOpt() / UDP(), 48, [0, 1, 2, 3]),
    "ICMP": (IP() / ICMP() / PAYLOAD, 20, range(18)),
    "ICMPv6": (IPv6() / ICMPv6EchoRequest() / PAYLOAD, 40, range(18)),
    "SCTP": (IP() / SCTP() / PAYLOAD, 20, range(22)),
    "a first fragment": (IP(flags="MF") / UDP(len=99) / PAYLOAD, 20, [0, 1, 2, 3, *range(8, 18)]),
    "a later fragment": (IP(frag=9, proto=17) / PAYLOAD, 20, range(10)),
    "a later fragment over IPv6": (IPv6() / IPv6ExtHdrFragment(offset=9, nh=17) / PAYLOAD, 48, range(10)),
    "a length of 0": (IP(len=0, proto=200) / PAYLOAD, 20, range(10)),
    "a length of 0 over IPv6": (IPv6(plen=0, nh=200) / PAYLOAD, 40, range(10)),
    "a length beyond the frame": (IP(len=999, proto=200) / PAYLOAD, 20, range(10)),
    "IP without payload": (IP(proto=17), 0, range(20)),
    "IPv6 without payload": (IPv6(nh=59), 0, range(40)),
    "a wrong version": (IP(version=5, proto=17) / PAYLOAD, 0, range(30)),
    "a wrong version of IPv6": (IPv6(version=5, nh=17) / PAYLOAD, 0, range(50)),
    "a wrong header length": (IP(ihl=4, proto=17) / PAYLOAD, 0, range(30)),
    "ARP": (ARP(), 0, range(28)),
}


@pytest.mark.parametrize(("packet", "before", "expected"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("tags", [(), (Dot1Q(vlan=7),), (Dot1AD(vlan=7), Dot1Q(vlan=42))], ids=len)
def test_bits_that_can_be_flipped(
    packet: Packet, before: int, expected: list[int], tags: tuple[Packet, ...]
) -> None:
    frame = ETHER
    for tag in tags:
        frame = frame / tag
    before += 14 + 4 * len(tags)
    assert octets(frame / packet) == [before + each for each in expected]


@pytest.mark.parametrize(("packet", "header"), [(IP(), 20), (IPv6(), 40)])
def test_padding_stays(packet: Packet, header: int) -> None:
    frame = bytes(ETHER / packet / UDP() / PAYLOAD)
    first = 14 + header
    assert octets(Raw(frame.ljust(len(frame) + 9, b"\0"))) == [
        *range(first, first + 4),
        *range(first + 8, first + 18),
    ]


def test_other_frames_are_corrupted_behind_the_ethernet_header() -> None:
    header = bytes(ETHER)[:12] + b"\x88\xb5"
    assert octets(Raw(header + b"abc")) == [14, 15, 16]
    # an IP header that ends early
    assert octets(Raw(header[:12] + b"\x08\0" + bytes(19))) == list(range(14, 33))
    assert octets(Raw(header[:12] + b"\x86\xdd" + bytes(39))) == list(range(14, 53))


def test_a_frame_with_nothing_behind_its_header_stays() -> None:
    frame = PLAIN + bytes(ETHER)[:12] + b"\x88\xb5"
    assert corrupted(frame, 0, 5) == frame


@pytest.mark.parametrize("gso_type", [3, 0x21, 4])
def test_a_super_frame_that_is_not_understood_is_not_repaired_either(gso_type: int) -> None:
    sent = bytes(Offloaded(gso_type=gso_type, flags=3))
    made = corrupted(sent, 0, 12345)
    assert made[0] == 2
    assert made[1:HEADER] == sent[1:HEADER]
    assert (int.from_bytes(made[1:]) ^ int.from_bytes(sent[1:])).bit_count() == 1


@given(st.binary(min_size=24, max_size=150), st.integers(0, 1 << 64))
def test_garbage_is_corrupted_too(frame: bytes, bit: int) -> None:
    made = corrupted(frame, 0, bit)
    assert not made[0] & 1
    assert made[HEADER : HEADER + 14] == frame[HEADER : HEADER + 14]
