"""What is left of a super-frame when segments are cut out, against the kernel's own segmentation."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

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
