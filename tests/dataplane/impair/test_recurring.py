"""Super-frames like the one before, against those that are parsed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.burst import SLOT
from epaird.dataplane.impair.pieces import shape, total_wire_octets
from epaird.dataplane.impair.recurring import UNKNOWN, Recurring
from tests.dataplane.superframes import Offloaded, offloaded

LIMIT = 1528
STREAM = Offloaded(bytes(30_000), gso_size=1448, tcp_options=b"\x01" * 12)


def buffer(frame: Offloaded) -> tuple[memoryview, int]:
    octets = bytes(frame)
    return memoryview(octets.ljust(SLOT, b"\xee")), len(octets)


def parsed(frame: Offloaded) -> tuple[int, int]:
    view, length = buffer(frame)
    found = shape(view, length)
    return found.segments, total_wire_octets(found)


@given(offloaded(), offloaded())
def test_what_is_recognised_divides_as_if_it_were_parsed(first: Offloaded, second: Offloaded) -> None:
    recurring = Recurring()
    recurring.learn(*buffer(first), LIMIT)
    for frame in (first, second):
        assert recurring.division(*buffer(frame), LIMIT) in (UNKNOWN, parsed(frame))


@given(
    st.sampled_from((4, 6)), st.sampled_from((6, 17)), st.sampled_from((1, 100, 1448)),
    st.lists(st.integers(1, 40), min_size=2, max_size=2), st.integers(-40, 0),
)  # fmt: skip
def test_the_frames_of_a_stream_are_recognised_whatever_their_length(
    version: int, protocol: int, gso_size: int, counts: list[int], less: int
) -> None:
    stream = STREAM.but(version=version, protocol=protocol, gso_size=gso_size, payload=bytes(2 * gso_size))
    recurring = Recurring()
    recurring.learn(*buffer(stream), LIMIT)
    for count in counts:
        size = max(gso_size + 1, gso_size * count + less)
        frame = stream.but(payload=b"y" * size, sequence=count, identification=7 * count, partial_xor=count)
        assert recurring.division(*buffer(frame), LIMIT) == parsed(frame)


def test_whatever_else_differs_is_not_recognised() -> None:
    recurring = Recurring()
    assert recurring.division(*buffer(STREAM), LIMIT) == UNKNOWN
    recurring.learn(*buffer(STREAM), LIMIT)
    assert recurring.division(*buffer(STREAM), LIMIT) == parsed(STREAM)
    assert recurring.division(*buffer(STREAM), LIMIT - 1) == UNKNOWN
    for other in (
        STREAM.but(gso_size=1449),
        STREAM.but(gso_type=0),
        STREAM.but(tcp_options=b""),
        STREAM.but(version=6),
        STREAM.but(protocol=17),
        STREAM.but(tags=b"\x81\0\0\7"),
        STREAM.but(extension=b"\x01" * 8),
        STREAM.but(flags=0),
        STREAM.but(payload=bytes(1448)),
        STREAM.but(payload=b""),
    ):
        assert recurring.division(*buffer(other), LIMIT) == UNKNOWN


def test_only_a_super_frame_without_tag_and_options_is_remembered() -> None:
    for other in (
        STREAM.but(gso_size=0),
        STREAM.but(payload=bytes(1448)),
        STREAM.but(tags=b"\x81\0\0\7"),
        STREAM.but(extension=b"\x01" * 8),
        STREAM.but(gso_type=9),
    ):
        recurring = Recurring()
        recurring.learn(*buffer(other), LIMIT)
        assert recurring.division(*buffer(other), LIMIT) == UNKNOWN
