"""Bytes on a wire."""

from __future__ import annotations

from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair import bursts, pieces
from epaird.dataplane.impair.wire import OVERHEAD, SHORTEST, UNCHECKED


def test_a_frame_takes_what_ieee_802_3_says() -> None:
    assert (OVERHEAD, UNCHECKED, SHORTEST + OVERHEAD) == (24, 20, 84)


def test_a_burst_and_a_single_frame_are_counted_alike() -> None:
    for length in (HEADER + 14, HEADER + SHORTEST - 1, HEADER + SHORTEST, HEADER + 1514):
        frame = bytes(length)
        found = pieces.shape(memoryview(frame), length)
        assert bursts._sizes([length, length]) == [pieces.wire_octets(found, 0)] * 2
        assert bursts._wire([length, length]) == 2 * pieces.wire_octets(found, 0)
