"""The rate: exact times without drift, the backlog, the number of segments that wait."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.shaper import BOTTLENECK_WORDS, MTU_OCTETS, WAITING_WORDS, Shaper, Waiting

SECOND: Final = 1_000_000_000
NOW: Final = 12_345_678_901

rates = st.integers(1, 100_000_000_000)
arrivals = st.lists(st.tuples(st.integers(0, 10_000_000), st.integers(84, 9_000)), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("rate", "octets", "count", "seconds"),
    [
        (10_000_000_000, 84, 12_500_000 // 84, Fraction(12_500_000 // 84 * 84, 1_250_000_000)),
        (10_000_000, MTU_OCTETS, 1000, Fraction(MTU_OCTETS * 8000, 10_000_000)),
        (7, 84, 1000, Fraction(84 * 8000, 7)),
        (3_000_000_000, 1537, 100_000, Fraction(1537 * 800_000, 3_000_000_000)),
    ],
)
def test_no_time_is_lost_in_many_segments(rate: int, octets: int, count: int, seconds: Fraction) -> None:
    shaper = Shaper(rate)
    for _ in range(count):
        left = shaper.leave(NOW, octets)
    assert left == NOW + int(seconds * SECOND)


def test_a_short_frame_at_ten_gigabits_takes_67_nanoseconds() -> None:
    shaper = Shaper(10_000_000_000)
    assert [shaper.leave(NOW, 84) - NOW for _ in range(6)] == [67, 134, 201, 268, 336, 403]


@given(rates, arrivals)
def test_departures_and_backlog_are_those_of_exact_arithmetic(rate: int, gaps: list[tuple[int, int]]) -> None:
    shaper, now, busy = Shaper(rate), NOW, Fraction(0)
    for gap, octets in gaps:
        now += gap
        backlog = max(Fraction(0), busy - now) * rate / (8 * SECOND)
        assert shaper.backlog(now) == -(-backlog.numerator // backlog.denominator)
        assert shaper.start(now) == max(now, int(busy))
        busy = max(Fraction(now), busy) + Fraction(octets * 8 * SECOND, rate)
        assert shaper.leave(now, octets) == int(busy)
        assert shaper.duration(octets) >= Fraction(octets * 8 * SECOND, rate)


@given(rates, arrivals)
def test_several_segments_at_once_leave_when_the_last_of_them_would(
    rate: int, gaps: list[tuple[int, int]]
) -> None:
    single, whole = Shaper(rate), Shaper(rate)
    left = [single.leave(NOW, octets) for _, octets in gaps][-1]
    assert whole.leave(NOW, sum(octets for _, octets in gaps), len(gaps)) == left
    assert whole.words() == single.words()


@given(rates, rates, arrivals)
def test_a_successor_goes_on_and_another_rate_keeps_what_was_accepted(
    rate: int, other: int, gaps: list[tuple[int, int]]
) -> None:
    first = Shaper(rate)
    for _, octets in gaps:
        left = first.leave(NOW, octets)
    assert len(first.words()) == BOTTLENECK_WORDS
    assert Shaper(rate, first.words()).leave(NOW, 100) == Shaper(rate, first.words()).leave(NOW, 100)
    changed = Shaper(other, first.words())
    assert changed.start(NOW) == left
    assert 0 <= changed.leave(NOW, 84) - left - 84 * 8 * SECOND // other <= 1


def test_waiting_counts_what_has_not_left() -> None:
    waiting = Waiting(11, 0)
    waiting.add(50, 100, 1)
    waiting.add(100, 400, 3)
    found = [waiting.count(now) for now in (0, 99, 100, 199, 200, 300, 399, 400)]
    assert found == [4, 4, 3, 3, 2, 1, 1, 0]
    waiting.add(1000, 1010, 1)
    assert [waiting.count(now) for now in (1000, 1009, 1010)] == [1, 1, 0]


@given(st.lists(st.integers(84, 9000), min_size=1, max_size=11), rates)
def test_a_short_queue_is_counted_exactly(sizes: list[int], rate: int) -> None:
    shaper, waiting = Shaper(rate), Waiting(11, 0)
    ends = []
    for octets in sizes:
        begin = shaper.start(NOW)
        ends.append(shaper.leave(NOW, octets))
        waiting.add(begin, ends[-1], 1)
    for now in sorted({NOW, *ends, *(end - 1 for end in ends)} - {NOW - 1}):
        assert waiting.count(now) == sum(end > now for end in ends)


@pytest.mark.parametrize("limit", [12, 100, 1000])
def test_equal_segments_are_counted_exactly_and_others_nearly(limit: int) -> None:
    for sizes, error in (([1500], 0), ([84, 1538, 600], 2)):
        shaper, waiting = Shaper(8_000_000), Waiting(limit, 0)
        ends: deque[int] = deque()
        for step in range(3 * limit):
            now = NOW + step * 300_000
            while ends and ends[0] <= now:
                ends.popleft()
            assert abs(waiting.count(now) - len(ends)) <= error
            if len(ends) < limit:
                begin = shaper.start(now)
                ends.append(shaper.leave(now, sizes[step % len(sizes)]))
                waiting.add(begin, ends[-1], 1)
            waiting = Waiting(limit, shaper.busy_until, waiting.words(shaper.busy_until))


@given(
    limits=st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    steps=st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 45)), max_size=60),
)
def test_the_state_of_waiting_is_complete(limits: list[int], steps: list[tuple[int, int]]) -> None:
    shaper, now = Shaper(10_000_000), NOW
    first, second = Waiting(limits[0], 0), Waiting(limits[0], 0)
    for index, (gap, segments) in enumerate(steps):
        now += gap
        limit = limits[index * len(limits) // len(steps)]
        words = first.words(shaper.busy_until)
        assert len(words) == WAITING_WORDS
        first = Waiting(limit, shaper.busy_until, words)
        if index % 3 == 0:
            second = Waiting(limit, shaper.busy_until, second.words(shaper.busy_until))
        assert first.count(now) <= sum(count for _, count in steps[:index])
        second.count(now)
        begin = shaper.start(now)
        left = shaper.leave(now, 1538 * segments, segments)
        first.add(begin, left, segments)
        second.add(begin, left, segments)
        if len(set(limits)) == 1:
            assert first.count(now) == second.count(now)
            assert first.words(shaper.busy_until) == second.words(shaper.busy_until)
