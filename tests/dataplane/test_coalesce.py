"""Which datagrams of a burst are joined, and that segmenting them again gives the datagrams sent."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaird.dataplane import coalesce
from epaird.dataplane.coalesce import SEGMENTS_MAX, SEGMENTS_MIN, SEGMENTS_MIN_SORTED, Coalescer, Delivery
from tests.dataplane.bursts import bursts
from tests.dataplane.datagrams import MAC_A, MAC_B, Datagram, folded, segments

SLOT = 65664

VERSIONS = pytest.mark.parametrize("version", [4, 6])


class Burst:
    """An arena, and the deliveries of bursts in it."""

    def __init__(self) -> None:
        self.arena = memoryview(mmap.mmap(-1, 64 * SLOT))
        self.coalescer = Coalescer(self.arena, SLOT)

    def plan(self, frames: Sequence[bytes]) -> list[Delivery]:
        """Return the deliveries of these frames."""
        for slot, frame in enumerate(frames):
            self.arena[slot * SLOT : slot * SLOT + len(frame)] = frame
        deliveries = self.coalescer.join([len(frame) for frame in frames])
        return [Delivery(None, range(len(frames)))] if deliveries is None else deliveries


BURST = Burst()


def runs(*burst: Datagram | bytes) -> list[list[int]]:
    """Return the slots of each super-frame; check that its segments are the datagrams sent."""
    frames = [bytes(each) for each in burst]
    deliveries = BURST.plan(frames)
    assert sorted(slot for delivery in deliveries for slot in delivery.slots) == list(range(len(frames)))
    for buffers, slots in deliveries:
        if buffers is not None:
            assert segments(b"".join(buffers)) == [frames[slot] for slot in slots]
    return [list(slots) for buffers, slots in deliveries if buffers is not None]


def series(count: int, start: int = 0, **fields: object) -> list[Datagram]:
    """Return datagrams that follow each other."""
    return [Datagram(number=start + i).but(**fields) for i in range(count)]


def with_odd_one(version: int = 4, **oddity: object) -> list[list[int]]:
    """Return the super-frames of 20 datagrams of which the tenth is odd."""
    burst = series(20, version=version)
    burst[9] = burst[9].but(**oddity)
    return runs(*burst)


BEFORE, AFTER = list(range(9)), list(range(10, 20))
APART = [BEFORE, AFTER]
"""The odd datagram is not joined."""


@VERSIONS
@pytest.mark.parametrize("count", [SEGMENTS_MIN, 7, 33, 64])
def test_one_flow_becomes_one_super_frame(version: int, count: int) -> None:
    assert runs(*series(count, version=version)) == [list(range(count))]


@VERSIONS
def test_few_are_not_joined(version: int) -> None:
    for count in range(SEGMENTS_MIN):
        assert runs(*series(count, version=version)) == []


def test_a_burst_of_one_flow_is_not_examined_datagram_by_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its headers are compared all at once, which is what makes joining cheap."""

    def examine(*_: object) -> bytes:
        raise AssertionError("examined one by one")

    monkeypatch.setattr(coalesce, "_follows", examine)
    for count in range(SEGMENTS_MIN, SEGMENTS_MAX + 1):
        assert runs(*series(count)) == [list(range(count))]
        assert runs(*series(count, version=6)) == [list(range(count))]
        assert runs(*[Datagram()] * count) == [], "nothing counts up"
    with pytest.raises(AssertionError, match="one by one"):
        runs(*series(10), *series(10, 20))


# The conditions for joining, adjacency first.


@VERSIONS
def test_anything_else_between_is_a_wall(version: int) -> None:
    arp = bytes(10) + MAC_B + MAC_A + b"\x08\x06" + bytes(28)
    burst: list[Datagram | bytes] = [*series(9, version=version), arp, *series(9, 9, version=version)]
    assert runs(*burst) == [list(range(9)), list(range(10, 19))]
    plan = BURST.plan([bytes(each) for each in burst])
    assert [list(delivery.slots) for delivery in plan] == [list(range(9)), [9], list(range(10, 19))]


@VERSIONS
def test_few_between_walls_are_joined_like_few_alone(version: int) -> None:
    arp = bytes(10) + MAC_B + MAC_A + b"\x08\x06" + bytes(28)
    for few, joined in ((SEGMENTS_MIN, True), (SEGMENTS_MIN - 1, False)):
        burst: list[Datagram | bytes] = [*series(9, version=version), arp]
        burst += [*series(few, 9, version=version), arp]
        between = [list(range(10, 10 + few))] if joined else []
        assert runs(*burst) == [list(range(9)), *between]


def test_flows_that_are_left_alone_beside_joined_ones_arrive() -> None:
    """``runs`` checks that each slot is delivered."""
    arp = bytes(10) + MAC_B + MAC_A + b"\x08\x06" + bytes(28)
    mixed = [Datagram(flow=1 + i % 2, number=i // 2) for i in range(2 * (SEGMENTS_MIN_SORTED - 1))]
    assert runs(*series(9), arp, *mixed) == [list(range(9))]


@VERSIONS
@pytest.mark.parametrize("rest", range(1, SEGMENTS_MIN))
def test_the_rest_of_a_long_run_is_delivered_if_it_is_short(version: int, rest: int) -> None:
    burst = series(46 + rest, version=version, payload=bytes(1400))
    assert runs(*burst) == [list(range(46))]


@pytest.mark.parametrize(
    ("octets", "slot", "fits"),
    [
        (2 * 72, 72, True),
        (2 * 80, 80, True),
        (64 * 88, 88, True),
        (65 * 88, 88, False),
        (2 * 64, 64, False),
        (2 * 76, 76, False),
        (2 * 80 + 8, 80, False),
    ],
)
def test_an_arena_consists_of_up_to_64_slots_of_whole_words_for_all_headers(
    octets: int, slot: int, fits: bool
) -> None:
    arena = memoryview(bytearray(octets))
    if fits:
        assert Coalescer(arena, slot).join([60] * 2) is None
    else:
        with pytest.raises(ValueError, match=f"slots of {slot} bytes"):
            Coalescer(arena, slot)


@VERSIONS
def test_other_mac_addresses_do_not_join(version: int) -> None:
    assert with_odd_one(version, macs=MAC_B + MAC_B) == APART
    assert with_odd_one(version, macs=MAC_A + MAC_A) == APART
    assert with_odd_one(version, macs=MAC_B + b"\x06" + MAC_A[1:]) == APART


@VERSIONS
def test_vlan_tagged_do_not_join(version: int) -> None:
    assert with_odd_one(version, tag=b"\x81\0\0\1") == APART
    assert runs(*series(20, version=version, tag=b"\x81\0\0\1")) == []


def test_ipv4_and_ipv6_do_not_join() -> None:
    assert runs(*series(10), *series(10, version=6)) == [list(range(10)), list(range(10, 20))]


@VERSIONS
def test_options_and_extension_headers_do_not_join(version: int) -> None:
    extension = bytes.fromhex("1100010400000000")
    assert with_odd_one(version, extension=extension) == APART
    assert runs(*series(20, version=version, extension=extension)) == []


@pytest.mark.parametrize("fragment", [0x2000, 0x6000, 0x0001, 0x4001, 0x8000])
def test_fragments_do_not_join(fragment: int) -> None:
    assert with_odd_one(fragment=fragment) == APART
    assert runs(*series(20, fragment=fragment)) == []


@VERSIONS
def test_padded_do_not_join(version: int) -> None:
    assert with_odd_one(version, padding=b"\0") == APART
    assert runs(*series(20, version=version, padding=b"\0")) == []


@VERSIONS
def test_a_wrong_ip_length_does_not_join(version: int) -> None:
    for wrong in (-1, 1):
        assert with_odd_one(version, ip_more=wrong) == APART
        assert runs(*series(20, version=version, ip_more=wrong)) == []


@VERSIONS
def test_other_header_fields_do_not_join(version: int) -> None:
    assert with_odd_one(version, ttl=63) == APART
    assert with_odd_one(version, tos=1) == APART
    assert with_odd_one(version, flow=1) != [list(range(20))]


def test_df_must_be_the_same() -> None:
    assert with_odd_one(fragment=0) == APART
    assert runs(*series(20, fragment=0)) == [list(range(20))]


def test_the_flow_label_must_be_the_same() -> None:
    assert with_odd_one(6, label=1) == APART


@pytest.mark.parametrize("fragment", [0, 0x4000])
def test_identifications_must_count_up(fragment: int) -> None:
    gap = [*series(10, fragment=fragment), *series(10, 11, fragment=fragment)]
    assert runs(*gap) == [list(range(10)), list(range(10, 20))]
    back = [*series(10, 10, fragment=fragment), *series(10, 19, fragment=fragment)]
    assert runs(*back) == [list(range(10)), list(range(10, 20))]
    assert runs(*[Datagram(fragment=fragment)] * 20) == []


@pytest.mark.parametrize("wrong", [{}, {"ttl": 63}, {"header_checksum_xor": 1}])
def test_between_gaps_each_stretch_is_a_run_of_its_own(wrong: dict[str, Any]) -> None:
    """As from a ring that was full for moments; the leader of a later stretch must be right as well."""
    burst = [*series(16), *series(16, 40), *series(5, 70), *series(16, 90)]
    if wrong:
        burst[16] = burst[16].but(**wrong)
    later = range(17, 32) if wrong else range(16, 32)
    assert runs(*burst) == [list(range(16)), list(later), list(range(37, 53))]


def test_a_run_ends_where_the_identification_wraps() -> None:
    assert runs(*series(20, 65526)) == [list(range(10)), list(range(10, 20))]


def test_datagrams_that_seem_to_follow_by_a_carry_do_not_join() -> None:
    """Identification 0 and a length too large by one is one more than 65535, as a number."""
    forged = series(10, 0, ip_more=1)
    first = series(10, 65526)
    assert int.from_bytes(bytes(forged[0])[26:30]) == int.from_bytes(bytes(first[9])[26:30]) + 1
    assert runs(*first, *forged) == [list(range(10))]


def test_datagrams_that_seem_to_follow_by_a_borrow_do_not_join() -> None:
    """A header checksum of 0 less one is 65535, and a protocol less one."""
    start = next(n for n in range(65500) if bytes(Datagram(number=n + 9))[34:36] == bytes(2))
    forged = []
    for i in range(10):
        datagram = bytearray(bytes(Datagram(number=start + 10 + i)))
        datagram[33:36] = b"\x10\xff" + bytes((0xFF - i,))
        forged.append(bytes(datagram))
    assert runs(*series(10, start), *forged) == [list(range(10))]
    assert runs(*series(10, start), forged[0], *series(10, start + 11)) == [
        list(range(10)),
        list(range(11, 21)),
    ]


def test_changes_that_cancel_out_in_the_header_checksum_do_not_join() -> None:
    assert with_odd_one(tos=1, ip_more=-1) == APART


@VERSIONS
@pytest.mark.parametrize("wrong", [{"ethertype": b"\x08\x06"}, {"first": 5}, {"protocol": 136}])
def test_frames_that_are_udp_only_by_their_virtio_net_hdr_do_not_join(
    version: int, wrong: dict[str, Any]
) -> None:
    assert with_odd_one(version, **wrong) == APART
    assert runs(*series(20, version=version, **wrong)) == []


@VERSIONS
def test_a_wrong_udp_length_does_not_join(version: int) -> None:
    for wrong in (-1, 1):
        assert with_odd_one(version, udp_more=wrong) == APART
        assert runs(*series(20, version=version, udp_more=wrong)) == []


@VERSIONS
def test_empty_datagrams_do_not_join(version: int) -> None:
    assert runs(*series(20, version=version, payload=b"")) == []
    assert with_odd_one(version, payload=b"") == APART


@VERSIONS
def test_only_the_last_may_be_shorter(version: int) -> None:
    assert with_odd_one(version, payload=b"short") == [list(range(10)), list(range(10, 20))]
    assert with_odd_one(version, payload=b"long" * 30) == APART
    burst = series(SEGMENTS_MIN, version=version)
    burst[-1] = burst[-1].but(payload=b"1")
    assert runs(*burst) == [list(range(SEGMENTS_MIN))]


def test_a_shorter_last_is_not_joined_across_a_wrap() -> None:
    burst = [*series(10, 65526), Datagram(b"short", number=0)]
    assert runs(*burst) == [list(range(10))]


@VERSIONS
def test_a_shorter_last_starts_no_second_packet(version: int) -> None:
    burst = [*series(52, version=version, payload=bytes(1400)), Datagram(b"short", version, number=52)]
    assert runs(*burst) == [list(range(46)), list(range(46, 53))]


@VERSIONS
@pytest.mark.parametrize(
    "wrong",
    [{"checksum_xor": 1}, {"udp_more": -1}, {"ip_more": 1}, {"padding": b"\0"}, {"ttl": 1}, {"flags": 0}],
)
def test_a_shorter_last_must_be_right_too(version: int, wrong: dict[str, Any]) -> None:
    assert with_odd_one(version, payload=b"short", **wrong) == APART


def test_a_shorter_last_must_have_a_right_header_checksum() -> None:
    assert with_odd_one(payload=b"short", header_checksum_xor=0x1000) == APART
    assert with_odd_one(payload=b"short", number=10) == APART


def test_no_more_segments_than_kernels_take() -> None:
    assert len(runs(*series(64, payload=b"x"))[0]) == 64 == SEGMENTS_MAX
    with pytest.raises(ValueError, match="up to 64 slots"):
        Coalescer(memoryview(bytearray(65 * SLOT)), SLOT)


@pytest.mark.parametrize(
    ("version", "size", "first"), [(4, 9000, 7), (4, 1400, 46), (6, 1400, 46), (6, 9361, 7), (6, 9362, 6)]
)
def test_no_more_payload_than_a_packet_holds(version: int, size: int, first: int) -> None:
    burst = series(first + SEGMENTS_MIN, version=version, payload=bytes(size))
    assert runs(*burst) == [list(range(first)), list(range(first, first + SEGMENTS_MIN))]


@VERSIONS
def test_the_largest_payload_exactly(version: int) -> None:
    largest = 65507 if version == 4 else 65527
    sizes = [9000] * 7 + [largest - 63000]
    fits = [Datagram(bytes(size), version, number=i) for i, size in enumerate(sizes)]
    assert runs(*fits) == [list(range(8))]
    assert runs(*fits[:7], fits[7].but(payload=bytes(sizes[7] + 1))) == [list(range(7))]


def test_too_few_of_too_large_are_left_alone() -> None:
    assert runs(*series(12, payload=bytes(20000))) == []


@VERSIONS
def test_a_zero_checksum_does_not_join(version: int) -> None:
    assert with_odd_one(version, checksum=0) == APART
    assert runs(*series(20, version=version, checksum=0)) == []


@VERSIONS
def test_a_complete_checksum_is_left_alone(version: int) -> None:
    assert with_odd_one(version, flags=0) == APART
    assert runs(*series(20, version=version, flags=0)) == []


@VERSIONS
@pytest.mark.parametrize("oddity", [{"flags": 3}, {"gso_type": 5}, {"csum_offset": 16}, {"hdr_len": 1}])
def test_any_other_virtio_net_hdr_does_not_join(version: int, oddity: dict[str, Any]) -> None:
    assert with_odd_one(version, **oddity) == APART
    assert runs(*series(20, version=version, **oddity)) == []


# A corrupt datagram must never become valid.


@VERSIONS
def test_a_wrong_partial_checksum_does_not_join(version: int) -> None:
    for wrong in (1, 0x8000, 0xFFFF):
        assert with_odd_one(version, checksum_xor=wrong) == APART
        assert runs(*series(20, version=version, checksum_xor=wrong)) == []


def test_a_wrong_header_checksum_does_not_join() -> None:
    for wrong in (1, 0x0100, 0xFFFF):
        assert with_odd_one(header_checksum_xor=wrong) == APART
        assert runs(*series(20, header_checksum_xor=wrong)) == []


def test_the_other_representation_of_a_zero_checksum_does_not_join() -> None:
    start = next(n for n in range(65500) if bytes(Datagram(number=n))[34:36] == bytes(2))
    burst = [Datagram(number=start, header_checksum_xor=0xFFFF), *series(10, start + 1)]
    assert not any(0 in run for run in runs(*burst))


@VERSIONS
def test_a_pseudo_header_sum_of_zero_is_written_as_a_kernel_would(version: int) -> None:
    payload = 0xFFFF - folded(Datagram(version=version).addresses + struct.pack(">HH", 17, 8))
    size = payload // 8 + 1
    burst = series(8, version=version, payload=bytes(size))
    burst[7] = burst[7].but(payload=bytes(payload - 7 * size))
    assert runs(*burst) == [list(range(8))]


def test_earlier_contents_of_a_slot_do_not_matter() -> None:
    assert runs(*series(20)) == [list(range(20))]
    short = bytes(Datagram())[:50]
    assert runs(*[short] * 20) == []


# Flows that share a burst.


@VERSIONS
@pytest.mark.parametrize("flows", [2, 4, 8])
def test_interleaved_flows_are_sorted(version: int, flows: int) -> None:
    burst = [Datagram(version=version, flow=i % flows, number=i // flows) for i in range(64)]
    assert runs(*burst) == [list(range(flow, 64, flows)) for flow in range(flows)]


def test_flows_that_hardly_alternate_keep_their_order() -> None:
    burst = [Datagram(flow=i // 8, number=i) for i in range(64)]
    assert runs(*burst) == [list(range(start, start + 8)) for start in range(0, 64, 8)]


def test_flows_that_share_the_burst_with_too_many_are_left_alone() -> None:
    flows = 64 // (SEGMENTS_MIN_SORTED - 1)
    assert (
        runs(*[Datagram(flow=i % flows, number=i // flows) for i in range(flows * (SEGMENTS_MIN_SORTED - 1))])
        == []
    )


def test_one_busy_flow_among_many_is_sorted() -> None:
    burst = [Datagram(flow=0 if i % 2 else i, number=i // 2 if i % 2 else 0) for i in range(64)]
    assert list(range(1, 64, 2)) in [[slot for slot in run if slot] for run in runs(*burst)]


def flow_of(frame: bytes) -> bytes | None:
    """Return the flow of a datagram; None for other frames, which no frame may overtake."""
    if frame[2:10] == bytes((0, 0, 0, 0, 34, 0, 6, 0)):
        return frame[36:48]
    if frame[2:10] == bytes((0, 0, 0, 0, 54, 0, 6, 0)):
        return frame[32:68]
    return None


@given(bursts())
@settings(max_examples=600, deadline=None)
def test_segments_are_the_datagrams_sent_in_order(burst: list[Datagram]) -> None:
    frames = [bytes(each) for each in burst]
    runs(*frames)
    order = [slot for delivery in BURST.plan(frames) for slot in delivery.slots]
    place = {slot: i for i, slot in enumerate(order)}
    flows = [flow_of(frame) for frame in frames]
    for later, flow in enumerate(flows):
        for earlier in range(later):
            if flow is None or flows[earlier] in (None, flow):
                assert place[earlier] < place[later]


@VERSIONS
def test_views_are_kept_for_some_sizes_only(version: int) -> None:
    """They take memory: a view of each slot for each size."""
    for size in range(1, 200):
        assert runs(*series(20, version=version, payload=bytes(size))) == [list(range(20))]
    kept = [len(protocol._cuts) for protocol in BURST.coalescer._protocols.values()]
    assert max(kept) <= 64


def test_slots_that_are_no_multiple_of_a_word_are_refused() -> None:
    with pytest.raises(ValueError, match="slots of 100 bytes"):
        Coalescer(memoryview(bytearray(6400)), 100)


@VERSIONS
@given(dropped=st.sets(st.integers(0, 63), min_size=1, max_size=8))
def test_what_is_left_of_a_burst_is_joined_where_it_lies(version: int, dropped: set[int]) -> None:
    frames = [bytes(each) for each in series(64, version=version)]
    BURST.plan(frames)
    ends = [-1, *sorted(dropped), 64]
    left = [range(before + 1, end) for before, end in pairwise(ends) if before + 1 < end]
    deliveries = BURST.coalescer.join_runs([len(frame) for frame in frames], left)
    assert deliveries is not None
    assert [slot for _, slots in deliveries for slot in slots] == sorted({*range(64)} - dropped)
    for buffers, slots in deliveries:
        if buffers is not None:
            assert segments(b"".join(buffers)) == [frames[slot] for slot in slots]
    long = [list(run) for run in left if len(run) >= SEGMENTS_MIN]
    assert [list(slots) for buffers, slots in deliveries if buffers is not None] == long


def test_what_is_left_of_any_other_burst_has_to_be_examined() -> None:
    for burst in (
        [*series(20), *series(20, start=30)],
        series(5),
        [*series(20)[:-1], Datagram(number=19, payload=b"long" * 20)],
        [bytes(84)] * 20,
    ):
        frames = [bytes(each) for each in burst]
        BURST.plan(frames)
        assert BURST.coalescer.join_runs([len(each) for each in frames], [range(3)]) is None
