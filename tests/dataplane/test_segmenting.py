"""Super-frames as they are on a wire, compared byte for byte with those of the kernel."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from epaird.dataplane.frames import HEADER
from epaird.dataplane.segmenting import segment
from epaird.dataplane.superframe import NotSegmentable
from tests.dataplane.datagrams import folded
from tests.dataplane.hop import Hop, bridged
from tests.dataplane.superframes import TAGS, TCP, UDP, Offloaded, offloaded

BASE = Offloaded(bytes(range(250)) * 14)


@pytest.fixture(scope="module")
def hop() -> Iterator[Hop]:
    with bridged(f"eptseg{os.getpid()}") as made:
        yield made


@pytest.mark.real
@given(offloaded())
@example(BASE.but(tags=TAGS[1] + TAGS[0], tcp_flags=0x99))
@example(BASE.but(version=6, tcp_flags=0x99, sequence=0xFFFFFF00))
@example(BASE.but(protocol=UDP, identification=0xFFFF))
@example(BASE.but(protocol=UDP, version=6, extension=b"\0\0\x01\x04\0\0\0\0"))
@example(BASE.but(partial_xor=0x1234))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_kernel_makes_the_same_frames(hop: Hop, frame: Offloaded) -> None:
    sent = bytes(frame)
    arrived = hop.single([sent])
    made = segment(sent)
    assert [each[HEADER:] for each in made] == [each[HEADER:] for each in arrived]
    assert {each[:HEADER] for each in made} == {bytes(HEADER)}


@given(offloaded())
def test_nothing_is_left_to_finish_and_no_byte_is_lost(frame: Offloaded) -> None:
    made = segment(memoryview(bytes(frame)))
    assert [segment(each) for each in made] == [[each] for each in made]
    headers = len(bytes(frame)) - len(frame.payload)
    assert b"".join(each[headers:] for each in made) == frame.payload


def test_a_frame_as_on_a_wire_stays_as_it_is() -> None:
    frame = bytes(HEADER) + b"\2" * 12 + b"\x88\xb5" + b"x"
    assert segment(frame) == [frame]
    # VIRTIO_NET_HDR_F_DATA_VALID: a note for the receiver, nothing to finish
    assert segment(b"\2" + frame[1:]) == [frame]


def test_a_super_frame_with_a_whole_checksum() -> None:
    """Its virtio_net_hdr does not say where the transport header is."""
    for frame in (BASE, BASE.but(version=6, tags=TAGS[0]), BASE.but(protocol=UDP)):
        sent = bytes(frame)
        assert segment(struct.pack("<BBHHHH", 0, sent[1], 0, 1000, 0, 0) + sent[HEADER:]) == segment(sent)


@pytest.mark.parametrize(
    "frame",
    [
        BASE.but(gso_type=3),
        BASE.but(gso_type=0x21),
        BASE.but(gso_type=4),
        BASE.but(gso_type=5),
        BASE.but(gso_type=1, gso_size=0),
        BASE.but(version=6, gso_type=1),
        BASE.but(protocol=UDP, gso_type=1),
    ],
)
def test_what_does_not_fit_together_is_refused(frame: Offloaded) -> None:
    with pytest.raises(NotSegmentable):
        segment(bytes(frame))


@pytest.mark.parametrize("frame", [BASE, BASE.but(version=6), BASE.but(protocol=UDP)])
def test_segments_that_are_longer_than_a_packet_can_be_are_refused(frame: Offloaded) -> None:
    headers = len(bytes(frame)) - len(frame.payload) - HEADER - 14
    for payload, fits in ((65535 - headers, True), (65536 - headers, False)):
        sent = bytes(frame.but(payload=b"", gso_size=payload))
        sent = sent.ljust(HEADER + 14 + headers + payload + 5, b"x")
        if fits:
            assert len(segment(sent)) == 2
        else:
            with pytest.raises(NotSegmentable, match="segments of 65536 bytes"):
                segment(sent)


@given(st.binary(min_size=24, max_size=200), st.sampled_from((0, 1, 4, 5)), st.integers(0, 300))
def test_garbage_is_segmented_or_refused(rest: bytes, kind: int, start: int) -> None:
    frame = struct.pack("<BBHHHH", 1, kind, 0, 10, start, 16) + rest
    with contextlib.suppress(NotSegmentable):
        segment(frame)


@given(offloaded(), st.integers(24, 120))
def test_a_frame_that_ends_early_is_segmented_or_refused(frame: Offloaded, length: int) -> None:
    with contextlib.suppress(NotSegmentable):
        segment(bytes(frame)[:length])


def test_a_transport_header_inside_the_ip_header_is_refused() -> None:
    sent = bytes(BASE)
    for start in (0, 14, 14 + 19):
        virtio = struct.pack("<BBHHHH", 1, sent[1], 0, 1000, start, 16)
        with pytest.raises(NotSegmentable):
            segment(virtio + sent[HEADER:])


CUT = [
    BASE,
    BASE.but(version=6, tags=TAGS[0]),
    BASE.but(tcp_options=b"\x01" * 12),
    BASE.but(protocol=UDP),
    BASE.but(protocol=UDP, version=6, extension=b"\0\0\x01\x04\0\0\0\0"),
]


@pytest.mark.parametrize("frame", CUT)
def test_a_super_frame_that_ends_in_its_headers_is_refused(frame: Offloaded) -> None:
    headers = len(bytes(frame)) - len(frame.payload)
    for length in range(HEADER, headers):
        with pytest.raises(NotSegmentable):
            segment(bytes(frame)[:length])


@pytest.mark.parametrize("frame", CUT)
def test_a_super_frame_without_payload_is_one_frame(frame: Offloaded) -> None:
    sent = bytes(frame.but(payload=b"", tcp_flags=0x99))
    (made,) = segment(sent)
    assert made == segment(bytes(frame.but(payload=b"", tcp_flags=0x99, gso_size=0)))[0]


def test_a_checksum_is_completed_up_to_the_end_of_the_frame() -> None:
    frame = struct.pack("<BBHHHH", 1, 0, 0, 0, 20, 8) + bytes(range(30))
    (made,) = segment(frame)
    assert made[: HEADER + 28] == bytes(HEADER) + bytes(range(28))
    assert int.from_bytes(made[-2:]) == 0xFFFF - folded(frame[HEADER + 20 :])
    for length in (29, 28, 27, 25):
        with pytest.raises(NotSegmentable):
            segment(frame[: HEADER + length])


@pytest.mark.parametrize(
    ("frame", "at", "written"),
    [
        (BASE.but(payload=bytes(2), gso_size=0), 16, 0xFFFF),
        (BASE.but(payload=bytes(2), gso_size=0, protocol=UDP), 6, 0xFFFF),
        (BASE.but(payload=bytes(2)), 16, 0),
        (BASE.but(payload=bytes(2), protocol=UDP), 6, 0xFFFF),
    ],
    ids=["unfinished TCP", "unfinished UDP", "TCP super-frame", "UDP super-frame"],
)
def test_a_checksum_that_is_zero_is_written_as_in_the_kernel(frame: Offloaded, at: int, written: int) -> None:
    """Zero is no checksum in UDP; skb_checksum_help() changes it for all, tcp_gso_segment() does not."""
    at += HEADER + 14 + 20
    (made,) = segment(bytes(frame))
    (made,) = segment(bytes(frame.but(payload=made[at : at + 2])))
    assert int.from_bytes(made[at : at + 2]) == written


@pytest.mark.parametrize("frame", [BASE, BASE.but(version=6)])
def test_the_checksum_of_a_super_frame_with_a_whole_one_is_over_its_addresses(frame: Offloaded) -> None:
    """Its source port does not begin with a zero byte."""
    sent = bytearray(bytes(frame))
    transport = HEADER + 14 + (20 if frame.version == 4 else 40)
    sent[transport] = 0x7F
    unfinished = bytes(sent)
    whole = struct.pack("<BBHHHH", 0, sent[1], 0, 1000, 0, 0) + unfinished[HEADER:]
    assert segment(whole) == segment(unfinished)


def test_protocols_of_the_kinds() -> None:
    assert {each.kind for each in (BASE, BASE.but(version=6), BASE.but(protocol=UDP))} == {1, 4, 5}
    assert BASE.protocol == TCP
