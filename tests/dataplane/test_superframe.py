"""The shape of super-frames and the headers of their parts.

The kernel's segmentation is compared with by test_segmenting and impair/test_pieces."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.frames import HEADER
from epaird.dataplane.superframe import NotSegmentable, PartHeaders, parse
from tests.dataplane.superframes import TAGS, TCP, UDP, Offloaded, offloaded

BASE = Offloaded(bytes(3500))


@given(offloaded().filter(lambda each: each.gso_size))
def test_the_shape_is_that_of_the_frame(frame: Offloaded) -> None:
    sent = bytes(frame)
    shape = parse(memoryview(sent))
    upper = 8 if frame.protocol == UDP else 20 + len(frame.tcp_options)
    assert shape.header == len(sent) - len(frame.payload) == shape.transport + upper
    assert shape.network == HEADER + 14 + len(frame.tags)
    assert shape.transport == shape.network + (20 if frame.version == 4 else 40) + len(frame.extension)
    assert shape.segments == -(-len(frame.payload) // frame.gso_size)
    assert (shape.size, shape.length) == (frame.gso_size, len(sent))
    assert (shape.ipv4, shape.tcp) == (frame.version == 4, frame.protocol != UDP)


@pytest.mark.parametrize("frame", [BASE, BASE.but(version=6, tags=TAGS[0]), BASE.but(protocol=UDP)])
def test_a_checksum_that_starts_elsewhere_than_the_transport_header_is_refused(frame: Offloaded) -> None:
    """The kernel's segmentation takes the transport header to be behind the IP header in any case."""
    sent = bytes(frame)
    right = parse(memoryview(sent)).transport - HEADER
    for start in (right - 1, right + 1, right + 20, 0, 0xFFFF):
        wrong = sent[:6] + struct.pack("<H", start) + sent[8:]
        with pytest.raises(NotSegmentable):
            parse(memoryview(wrong))
        # Where the checksum is whole, the position means nothing.
        assert parse(memoryview(b"\0" + wrong[1:])) == parse(memoryview(sent))


@given(offloaded().filter(lambda each: each.gso_size), st.data())
def test_a_part_has_the_headers_of_a_frame_with_its_payload(frame: Offloaded, data: st.DataObject) -> None:
    segments = -(-len(frame.payload) // frame.gso_size)
    first = data.draw(st.integers(0, segments - 1))
    check_part(frame, first, data.draw(st.integers(first + 1, segments)))


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_each_part_of_four_segments(first: int, version: int, protocol: int) -> None:
    frame = BASE.but(version=version, protocol=protocol, identification=0xFFFE)
    frame = frame.but(tcp_flags=0xFF, sequence=0xFFFFF000, extension=b"\x01" * 4 if version == 4 else b"")
    for stop in range(first + 1, 5):
        check_part(
            frame.but(identification=0xFFFE, extension=b"\x01" * 4 if version == 4 else b""), first, stop
        )


def check_part(frame: Offloaded, first: int, stop: int) -> None:
    """Check the headers of some segments, also if the checksum of the super-frame is whole."""
    sent, size = bytes(frame), frame.gso_size
    part = frame.but(
        payload=frame.payload[first * size : stop * size],
        sequence=(frame.sequence + first * size) & 0xFFFFFFFF,
        identification=(frame.identification + first) & 0xFFFF,
    )
    last = stop * size >= len(frame.payload)
    flags = frame.tcp_flags & (0xFF if last else ~0x09) & (~0x80 if first else 0xFF)
    expected = bytes(part.but(tcp_flags=flags))
    whole = b"\0" + bytes(frame.but(partial_xor=0x1357))[1:]
    for found in (memoryview(sent), memoryview(whole)):
        shape = parse(found)
        head = PartHeaders.of(found, shape).written(first, len(part.payload), last)
        assert head[:HEADER] == found[:HEADER]
        assert head[HEADER:] + part.payload == expected[HEADER:]


def test_a_wrong_pseudo_header_sum_stays_wrong_by_as_much() -> None:
    changes = []
    for frame in (BASE, BASE.but(partial_xor=0x0101)):
        sent = memoryview(bytes(frame))
        shape = parse(sent)
        field = slice(shape.transport + 16, shape.transport + 18)
        head = PartHeaders.of(sent, shape).written(1, 9, False)
        changes.append((int.from_bytes(head[field]) - int.from_bytes(sent[field])) % 0xFFFF)
    assert changes[0] == changes[1]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (BASE.but(gso_type=3), "gso_type 3"),
        (BASE.but(gso_type=0x21), "gso_type 33"),
        (BASE.but(gso_type=0), "gso_type 0"),
        (BASE.but(gso_type=4), "EtherType 0800"),
        (BASE.but(version=6, gso_type=1), "EtherType 86dd"),
        (BASE.but(version=6, gso_type=1, tags=TAGS[0]), "EtherType 86dd"),
        (BASE.but(gso_type=5), "protocol 6"),
        (BASE.but(version=6, gso_type=5), "protocol 6"),
        (BASE.but(protocol=UDP, gso_type=1), "protocol 17"),
        (BASE.but(gso_type=1, gso_size=0), "gso_size 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(frame: Offloaded, why: str) -> None:
    sent = bytes(frame)
    with pytest.raises(NotSegmentable, match=why):
        parse(memoryview(sent))


@pytest.mark.parametrize("frame", [BASE, BASE.but(version=6), BASE.but(protocol=UDP), BASE.but(tags=TAGS[1])])
def test_a_frame_that_ends_in_its_headers_is_refused(frame: Offloaded) -> None:
    sent = bytes(frame)
    header = parse(memoryview(sent)).header
    for length in range(2, header):
        with pytest.raises(NotSegmentable):
            parse(memoryview(sent)[:length])
    assert parse(memoryview(sent)[:header]).segments == 1
    assert parse(memoryview(sent)[: header + 1]).segments == 1


def test_segments_that_are_longer_than_a_packet_can_be_are_refused() -> None:
    for octets, fits in ((65535 - 40, True), (65536 - 40, False)):
        sent = bytes(BASE.but(payload=b"", gso_size=octets)) + bytes(octets + 5)
        if fits:
            assert parse(memoryview(sent)).segments == 2
        else:
            with pytest.raises(NotSegmentable, match="segments of 65536 bytes"):
                parse(memoryview(sent))
