"""The shape of super-frames. Their parts' headers are compared with the kernel's by test_segmenting and
impair/test_pieces."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given

from epaird.dataplane.frames import HEADER
from epaird.dataplane.superframe import NotSegmentable, parse
from tests.dataplane.superframes import TAGS, UDP, Offloaded, offloaded

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
