"""ECN marks, against scapy's checksums."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.marking import ecn_capable, mark, mark_in_place
from epaird.dataplane.impair.pieces import extract, shape
from tests.dataplane.superframes import Offloaded, offloaded

NOT_ECT, ECT_1, ECT_0, CE = range(4)
TAGS: tuple[Packet, ...] = (Ether(), Ether() / Dot1Q(vlan=7), Ether() / Dot1AD() / Dot1Q(prio=3))


def marked(frame: bytes, number: int = 0) -> bytes | None:
    view = memoryview(frame).toreadonly()
    made = mark(view, shape(view, len(frame)), number)
    assert ecn_capable(view, len(frame)) is (made is not None)
    return made


@given(
    st.sampled_from(TAGS),
    st.sampled_from((4, 6)),
    st.integers(0, 63),
    st.sampled_from((ECT_0, ECT_1, CE)),
    st.integers(0, 0xFFFF),
)
@example(TAGS[0], 4, 0, ECT_0, 0)
def test_only_the_field_and_the_checksum_of_the_header_change(
    start: Packet, version: int, dscp: int, codepoint: int, number: int
) -> None:
    def packet(field: int) -> bytes:
        traffic = dscp << 2 | field
        ip = IP(tos=traffic, id=number) if version == 4 else IPv6(tc=traffic, fl=number)
        return bytes(HEADER) + bytes(start / ip / UDP() / Raw(b"xyz"))

    assert marked(packet(codepoint)) == packet(CE)
    assert marked(packet(NOT_ECT)) is None
    unmarked = memoryview(packet(NOT_ECT)).toreadonly()
    assert not mark_in_place(unmarked, len(unmarked))


@pytest.mark.parametrize(("packet", "expected"), [(IP(tos=ECT_0), IP(tos=CE)), (IPv6(tc=ECT_0), IPv6(tc=CE))])
def test_a_packet_may_be_its_header_alone(packet: Packet, expected: Packet) -> None:
    assert marked(bytes(HEADER) + bytes(Ether() / packet)) == bytes(HEADER) + bytes(Ether() / expected)


@pytest.mark.parametrize(
    "packet",
    [
        ARP(),
        Raw(b"\xff" * 60),
        IP(version=5, tos=CE),
        IPv6(version=5, tc=CE),
        Raw(bytes(IP(tos=CE))[:19]),
        Raw(bytes(IPv6(tc=CE))[:39]),
    ],
)
@pytest.mark.parametrize("kind", [0x0800, 0x86DD, 0x0806])
def test_what_is_no_ip_packet_is_not_marked(packet: Packet, kind: int) -> None:
    frame = bytes(HEADER) + bytes(Ether(type=kind))[:14] + bytes(packet)
    assert marked(frame) is None
    changed = memoryview(bytearray(frame))
    assert not mark_in_place(changed, len(frame))
    assert changed == frame


@given(offloaded(), st.data())
def test_a_segment_of_a_super_frame_is_marked_alone(frame: Offloaded, data: st.DataObject) -> None:
    sent = bytes(frame)
    at = HEADER + 14 + len(frame.tags) + 1
    capable = bytearray(sent)
    capable[at] |= ECT_0 << (0 if frame.version == 4 else 4)
    found = shape(memoryview(capable), len(capable))
    number = data.draw(st.integers(0, found.segments - 1))
    single = extract(memoryview(capable), found, number, number + 1)
    made = marked(bytes(capable), number)
    assert made is not None
    assert made[at] == single[at] | CE << (0 if frame.version == 4 else 4)
    assert made[:HEADER] == single[:HEADER]
    unmarked = bytearray(made)
    unmarked[at] = single[at]
    if frame.version == 4:
        unmarked[at + 9 : at + 11] = single[at + 9 : at + 11]
        assert (
            sum(int.from_bytes(made[i : i + 2]) for i in range(at - 1, at + 19 + len(frame.extension), 2))
            % (0xFFFF)
            == sum(
                int.from_bytes(single[i : i + 2]) for i in range(at - 1, at + 19 + len(frame.extension), 2)
            )
            % 0xFFFF
        )
    assert unmarked == single


def test_a_super_frame_is_marked_as_a_whole_in_place() -> None:
    sent = bytearray(bytes(Offloaded()))
    sent[HEADER + 15] = ECT_0
    buffer = memoryview(bytearray(sent) + b"\xee" * 50)
    assert mark_in_place(buffer, len(sent))
    assert buffer[HEADER + 15] == CE
    assert buffer[len(sent) :] == b"\xee" * 50
    assert [place for place, byte in enumerate(sent) if buffer[place] != byte] == [HEADER + 15, HEADER + 25]


@given(st.binary(max_size=150), st.integers(0, 150))
def test_garbage_never_raises(frame: bytes, length: int) -> None:
    view = memoryview(bytearray(frame.ljust(HEADER + 14, b"\0")))
    length = min(len(view), max(HEADER + 14, length))
    if not ecn_capable(view, length):
        assert not mark_in_place(view, length)


def test_what_is_no_ip_is_not_marked_whatever_its_virtio_net_hdr_has() -> None:
    frame = memoryview(b"\xff" * HEADER + bytes(Ether() / ARP()))
    assert not ecn_capable(frame, len(frame))
    assert not mark_in_place(frame, len(frame))
