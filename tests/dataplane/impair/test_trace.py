"""Delivery opportunities: the departures of mahimahi's own algorithm."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.shaper import BOTTLENECK_WORDS
from epaird.dataplane.impair.trace import FRAMING, OPPORTUNITY_OCTETS, Opportunities

MS: Final = 1_000_000
BEGIN: Final = 777 * MS
FULL: Final = OPPORTUNITY_OCTETS + FRAMING

times = st.lists(st.integers(0, 30), min_size=1, max_size=20).map(sorted).filter(lambda found: found[-1] > 0)
arrivals = st.lists(st.tuples(st.integers(0, 12), st.integers(84, FULL)), min_size=1, max_size=60)


def simulated(trace: list[int], packets: list[tuple[int, int]]) -> list[int]:
    """Departures in milliseconds of packets (arrival, bytes), by going through the opportunities one by
    one."""
    waiting: deque[list[int]] = deque()
    coming = deque([moment, size, index] for index, (moment, size) in enumerate(packets))
    departures = [0] * len(packets)
    period = 0
    while coming or waiting:
        for each in trace:
            moment = period + each
            # A packet that arrives at the time of an opportunity comes after it.
            while coming and coming[0][0] < moment:
                waiting.append(coming.popleft())
            left = OPPORTUNITY_OCTETS
            while left and waiting:
                used = min(left, waiting[0][1])
                left -= used
                waiting[0][1] -= used
                if not waiting[0][1]:
                    departures[waiting.popleft()[2]] = moment
        period += trace[-1]
    return departures


def nanoseconds(trace: list[int]) -> array[int]:
    return array("Q", [each * MS for each in trace])


@given(times, arrivals)
def test_segments_leave_when_mahimahi_would_send_them(trace: list[int], gaps: list[tuple[int, int]]) -> None:
    link = Opportunities(nanoseconds(trace), BEGIN)
    packets, now = [], 0
    for gap, octets in gaps:
        now += gap
        packets.append((now, octets - FRAMING))
    found = []
    for moment, size in packets:
        start = link.start(BEGIN + moment * MS)
        found.append(link.leave(BEGIN + moment * MS, size + FRAMING))
        assert BEGIN + moment * MS < start <= found[-1]
        link = Opportunities(nanoseconds(trace), BEGIN, link.words())
    assert [(each - BEGIN) // MS for each in found] == simulated(trace, packets)


@given(times, st.lists(st.integers(84, FULL), min_size=1, max_size=60))
def test_several_segments_at_once_leave_when_the_last_of_them_would(
    trace: list[int], sizes: list[int]
) -> None:
    single, whole = Opportunities(nanoseconds(trace), BEGIN), Opportunities(nanoseconds(trace), BEGIN)
    left = [single.leave(BEGIN, octets) for octets in sizes][-1]
    assert whole.leave(BEGIN, sum(sizes), len(sizes)) == left
    assert whole.words() == single.words()
    assert whole.backlog(BEGIN) >= sum(sizes) - FRAMING * len(sizes)
    assert whole.backlog(left) == 0


def test_a_full_frame_uses_one_opportunity_and_short_ones_share_it() -> None:
    link = Opportunities(nanoseconds([0, 10, 10, 20]), BEGIN)
    assert [(link.leave(BEGIN + MS, FULL) - BEGIN) // MS for _ in range(6)] == [10, 10, 20, 20, 30, 30]
    assert link.backlog(BEGIN + MS) == 6 * OPPORTUNITY_OCTETS
    assert link.backlog(BEGIN + 15 * MS) == 4 * OPPORTUNITY_OCTETS
    short = FRAMING + OPPORTUNITY_OCTETS // 4
    assert [(link.leave(BEGIN + MS, short) - BEGIN) // MS for _ in range(5)] == [40, 40, 40, 40, 40]
    assert (link.leave(BEGIN + 40 * MS, 84) - BEGIN) // MS == 50


def test_what_is_left_of_an_opportunity_is_lost() -> None:
    link = Opportunities(nanoseconds([10, 20]), BEGIN)
    assert link.leave(BEGIN, 84) == BEGIN + 10 * MS
    assert link.leave(BEGIN + 10 * MS, 84) == BEGIN + 20 * MS


def test_a_trace_begins_when_it_is_applied() -> None:
    link = Opportunities(nanoseconds([10]), BEGIN)
    assert link.leave(0, 84) == BEGIN + 10 * MS


def test_another_trace_begins_behind_what_was_accepted() -> None:
    first = Opportunities(nanoseconds([10, 500]), BEGIN)
    for _ in range(2):
        left = first.leave(BEGIN, FULL)
    assert len(first.words()) == BOTTLENECK_WORDS
    second = Opportunities(nanoseconds([10]), BEGIN + 20 * MS, first.words())
    assert second.leave(BEGIN + 30 * MS, 84) > left == BEGIN + 500 * MS


def test_a_trace_is_read_from_memory() -> None:
    view = memoryview(nanoseconds([5, 10]).tobytes()).cast("Q")
    link = Opportunities(view, BEGIN)
    assert link.leave(BEGIN, FULL) == BEGIN + 5 * MS
    assert link.mean_rate == FULL * 8 * 200


@pytest.mark.parametrize("trace", [[], [0], [0, 0]])
def test_a_trace_without_a_period_is_refused(trace: list[int]) -> None:
    with pytest.raises(ValueError, match="after 0"):
        Opportunities(trace, BEGIN)
