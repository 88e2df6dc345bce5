"""What is left of a super-frame when segments are cut out, against the kernel's own segmentation."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers import inet as scapy_inet
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.pieces import (
    Piece,
    extract,
    pieces,
    shape,
    total_wire_octets,
    wire_octets,
)
from epaird.dataplane.segmenting import segment
from tests.dataplane.hop import Hop, bridged
from tests.dataplane.superframes import TAGS, UDP, Offloaded, offloaded

BASE = Offloaded(bytes(range(250)) * 14)
Ranges = list[tuple[int, int]]
FIN, PSH, CWR = 0x01, 0x08, 0x80
FINISHED = {
    scapy_inet.IP: ("len", "chksum"),
    IPv6: ("plen",),
    scapy_inet.TCP: ("chksum",),
    scapy_inet.UDP: ("len", "chksum"),
}
"""Fields that a cut changes."""


def ranges(stays: list[bool], splits: list[bool]) -> Ranges:
    """The ranges of the segments that stay, in a row where there is no split between them."""
    made: Ranges = []
    for number, stay in enumerate(stays):
        if stay and made and made[-1][1] == number and not splits[number]:
            made[-1] = (made[-1][0], number + 1)
        elif stay:
            made.append((number, number + 1))
    return made


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Offloaded, Ranges]:
    """Draw a super-frame and the ranges of its segments that stay."""
    frame = draw(offloaded().filter(lambda each: each.gso_size))
    count = -(-len(frame.payload) // frame.gso_size)
    stays = st.lists(st.sampled_from((True, True, True, False)), min_size=count, max_size=count)
    splits = st.lists(st.sampled_from((False, False, False, True)), min_size=count, max_size=count)
    return frame, ranges(draw(stays), draw(splits))


def cut(sent: bytes, kept: Ranges, room: int = 0) -> tuple[list[Piece], list[bytes]]:
    """Return the pieces of a super-frame, and the frames that they are."""
    buffer = memoryview(bytearray(sent + b"\xee" * room))
    made = pieces(buffer, shape(buffer, len(sent)), kept)
    assert bytes(buffer[len(sent) :]) == b"\xee" * room
    frames = [each.copy or bytes(buffer[each.offset : each.offset + each.length]) for each in made]
    return made, frames


@pytest.fixture(scope="module")
def hop() -> Iterator[Hop]:
    with bridged(f"eptcut{os.getpid()}") as made:
        yield made


@pytest.mark.real
@given(cuts())
@example((BASE, [(0, 1), (3, 4)]))
@example((BASE.but(tcp_flags=0x99), [(0, 1), (1, 3), (3, 4)]))
@example((BASE.but(tcp_flags=0x99, version=6, tags=TAGS[1] + TAGS[0]), [(0, 2), (3, 4)]))
@example((BASE.but(protocol=UDP, identification=0xFFFE), [(0, 1), (2, 4)]))
@example((BASE.but(partial_xor=0x1234), [(1, 2), (3, 4)]))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_kernel_makes_the_segments_that_stay_of_the_pieces(
    hop: Hop, case: tuple[Offloaded, Ranges]
) -> None:
    frame, kept = case
    whole = hop.single([bytes(frame)])
    made, frames = cut(bytes(frame), kept)
    assert [(each.first, each.first + each.segments) for each in made] == kept
    assert [len(each) for each in frames] == [each.length for each in made]
    for (start, stop), each in zip(kept, frames, strict=True):
        assert hop.single([each]) == whole[start:stop]
        assert [bare[HEADER:] for bare in segment(each)] == [bare[HEADER:] for bare in whole[start:stop]]


@given(cuts())
@settings(max_examples=50)
def test_scapy_reads_the_segments_that_stay(case: tuple[Offloaded, Ranges]) -> None:
    frame, kept = case
    size, last = frame.gso_size, -(-len(frame.payload) // frame.gso_size) - 1
    singles = [each for piece in cut(bytes(frame), kept)[1] for each in segment(piece)]
    numbers = [number for first, stop in kept for number in range(first, stop)]
    for number, single in zip(numbers, singles, strict=True):
        parsed = Ether(single[HEADER:])
        layer = parsed[scapy_inet.UDP if frame.protocol == UDP else scapy_inet.TCP]
        assert bytes(layer.payload) == frame.payload[number * size : (number + 1) * size]
        if frame.version == 4:
            assert parsed[scapy_inet.IP].id == (frame.identification + number) % (1 << 16)
        if frame.protocol != UDP:
            assert layer.seq == (frame.sequence + number * size) % (1 << 32)
            absent = (0 if number == last else FIN | PSH) | (0 if number == 0 else CWR)
            assert int(layer.flags) == frame.tcp_flags & ~absent
        assert_finished(parsed)


def assert_finished(parsed: Packet) -> None:
    """Check that scapy would write the same lengths and checksums."""
    written = {}
    for kind, fields in FINISHED.items():
        for field in fields if kind in parsed else ():
            written[kind, field] = getattr(parsed[kind], field)
            delattr(parsed[kind], field)
    again = Ether(bytes(parsed))
    for (kind, field), value in written.items():
        # 0 and 0xFFFF are the same sum.
        assert getattr(again[kind], field) % 0xFFFF == value % 0xFFFF, (kind, field)


@given(cuts())
def test_octets_on_the_wire_are_those_of_the_segments(case: tuple[Offloaded, Ranges]) -> None:
    sent = bytes(case[0])
    found = shape(memoryview(sent), len(sent))
    octets = [max(60, len(each) - HEADER) + 24 for each in segment(sent)]
    assert [wire_octets(found, number) for number in range(found.segments)] == octets
    assert total_wire_octets(found) == sum(octets)


@given(cuts())
def test_a_copy_is_the_frame_that_a_piece_would_be(case: tuple[Offloaded, Ranges]) -> None:
    sent, kept = bytes(case[0]), case[1]
    found = shape(memoryview(sent), len(sent))
    copies = [extract(memoryview(sent), found, *each) for each in kept]
    assert copies == cut(sent, kept)[1]


def virtio(frame: bytes) -> tuple[int, ...]:
    return struct.unpack_from("<BBHHHH", frame)


def test_the_virtio_net_hdr_of_pieces() -> None:
    """As virtio_net_hdr_from_skb() writes it, but for hdr_len: that is the length of all headers."""
    sent = bytes(BASE.but(tcp_flags=0x99))
    _, frames = cut(sent, [(0, 1), (1, 3), (3, 4)])
    assert [virtio(each) for each in frames] == [
        (1, 0, 0, 0, 34, 16),
        (1, 1, 54, 1000, 34, 16),
        (1, 0, 0, 0, 34, 16),
    ]
    _, frames = cut(sent, [(0, 2), (2, 4)])
    assert [virtio(each) for each in frames] == [(1, 0x81, 54, 1000, 34, 16), (1, 1, 54, 1000, 34, 16)]
    _, frames = cut(bytes(BASE.but(protocol=UDP, version=6)), [(1, 2), (2, 4)])
    assert [virtio(each) for each in frames] == [(1, 0, 0, 0, 54, 6), (1, 5, 62, 1000, 54, 6)]


@pytest.mark.parametrize("frame", [BASE, BASE.but(version=6, tags=TAGS[0]), BASE.but(protocol=UDP)])
def test_pieces_of_a_super_frame_with_a_whole_checksum_have_an_unfinished_one(frame: Offloaded) -> None:
    """Its own covers segments that a piece has not. DATA_VALID would be about that one."""
    sent = bytes(frame)
    kept = [(0, 1), (2, 4)]
    whole = struct.pack("<BBHHHH", 2, sent[1], 0, 1000, 0, 0) + sent[HEADER:]
    assert cut(whole, kept)[1] == cut(sent, kept)[1]


def test_nothing_is_written_where_every_segment_stays() -> None:
    sent = bytes(BASE)
    view = memoryview(sent).toreadonly()
    assert pieces(view, shape(view, len(sent)), [(0, 4)]) == [Piece(0, len(sent), 4, 0, None)]
    assert pieces(view, shape(view, len(sent)), []) == []
    assert extract(view, shape(view, len(sent)), 0, 4) == sent


def test_a_frame_of_one_segment_stays_or_goes() -> None:
    sent = bytes(BASE.but(gso_size=0))
    view = memoryview(sent + b"more").toreadonly()
    found = shape(view, len(sent))
    assert pieces(view, found, [(0, 1)]) == [Piece(0, len(sent), 1, 0, None)]
    assert pieces(view, found, []) == []
    assert extract(view, found, 0, 1) == sent


@pytest.mark.parametrize(
    ("size", "kept", "copied"),
    [
        (1, [(2, 3), (3, 4)], [False, True]),
        (1000, [(0, 1), (2, 4)], [False, False]),
        (1000, [(1, 2), (2, 4)], [False, True]),
        (64, [(0, 1), (2, 4)], [False, False]),
        (63, [(0, 1), (2, 4)], [False, True]),
        (32, [(0, 1), (3, 4)], [False, False]),
        (31, [(0, 1), (3, 4)], [False, True]),
    ],
)
def test_a_piece_is_copied_where_the_room_before_it_is_short(
    size: int, kept: Ranges, copied: list[bool]
) -> None:
    """All headers of BASE are 64 bytes."""
    made, _ = cut(bytes(BASE.but(gso_size=size, payload=b"x" * 4 * size)), kept, room=100)
    assert [each.copy is not None for each in made] == copied
    assert [each.offset for each in made] == [
        0 if copy else start * size for copy, (start, _) in zip(copied, kept, strict=True)
    ]


SINGLE = [
    BASE.but(gso_size=0),
    BASE.but(payload=b"x" * 1000),
    BASE.but(payload=b""),
    BASE.but(gso_type=3),
    BASE.but(gso_type=0x21),
    BASE.but(gso_type=0x80),
    BASE.but(version=6, gso_type=1),
    BASE.but(protocol=UDP, gso_type=1),
    BASE.but(gso_type=5),
    BASE.but(gso_type=1, gso_size=0),
]


@pytest.mark.parametrize("frame", SINGLE)
def test_what_is_no_super_frame_is_one_segment(frame: Offloaded) -> None:
    sent = bytes(frame)
    assert shape(memoryview(sent + b"more"), len(sent)) == (len(sent), 0, 1, len(sent), 0, 0, False, False)


@given(
    st.binary(max_size=200), st.sampled_from((0, 1, 3, 4, 5, 0x81)), st.integers(0, 300), st.integers(0, 300)
)
def test_garbage_is_some_number_of_segments(rest: bytes, kind: int, start: int, length: int) -> None:
    frame = struct.pack("<BBHHHH", 1, kind, 0, 10, start, 16) + rest
    check_all(frame, min(length, len(frame)))


@given(offloaded(), st.integers(0, 120), st.integers(0, 255), st.integers(0, 3000))
def test_damaged_headers_never_raise(frame: Offloaded, place: int, byte: int, length: int) -> None:
    damaged = bytearray(bytes(frame))
    damaged[min(place, len(damaged) - 1)] = byte
    check_all(bytes(damaged), len(damaged))
    check_all(bytes(damaged), min(length, len(damaged)))


def check_all(sent: bytes, length: int) -> None:
    """Check that every second segment can be cut out, and that nothing beyond the frame is changed."""
    buffer = memoryview(bytearray(sent))
    found = shape(buffer, length)
    assert found.length == length
    made = pieces(buffer, found, [(number, number + 1) for number in range(0, found.segments, 2)])
    assert all((each.offset >= 0 and each.offset + each.length <= length) or each.copy for each in made)
    assert buffer[length:] == sent[length:]
