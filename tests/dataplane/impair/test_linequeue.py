"""The queue before the rate: limits in bytes and segments, CoDel, pieces."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.codel import CODEL_WORDS
from epaird.dataplane.impair.fates import Fate
from epaird.dataplane.impair.linequeue import QUEUE_WORDS, LineQueue
from epaird.dataplane.impair.shaper import Shaper
from epaird.dataplane.impair.trace import Opportunities
from epaird.ipc.impairment import LineParameters

MS: Final = 1_000_000
NOW: Final = 900 * MS
NEW: Final = (0,) * QUEUE_WORDS
RATE: Final = 8_000_000
"""A byte takes a microsecond."""


def queue(given: dict[str, int] | None = None, words: tuple[int, ...] = NEW) -> LineQueue:
    line = LineParameters(rate=RATE, **(given or {}))  # type: ignore[arg-type]
    return LineQueue(Shaper(RATE, words), line, words)


def accepted(line: LineQueue, now: int, sizes: list[int]) -> list[int]:
    """Indexes of the segments that the queue takes, offered one by one."""
    offers = [line.offer(now, octets, 1, ecn_capable=False) for octets in sizes]
    assert {answer for answer in offers if isinstance(answer, Fate)} <= {Fate.QUEUE_FULL}
    return [index for index, answer in enumerate(offers) if not isinstance(answer, Fate)]


def test_without_a_limit_a_rate_takes_everything() -> None:
    assert len(accepted(queue(), NOW, [1500] * 10_000)) == 10_000


def test_a_limit_in_bytes_is_exact() -> None:
    line = queue({"limit_bytes": 3000})
    assert accepted(line, NOW, [1000, 1000, 1001, 1000, 84]) == [0, 1, 3]
    # After 84 microseconds and a part of the next, 84 bytes have left.
    assert accepted(line, NOW + 83_999, [84]) == []
    assert accepted(line, NOW + 84_000, [85, 84, 84]) == [1]


def test_a_limit_in_segments_counts_those_that_have_not_left() -> None:
    line = queue({"limit_segments": 3})
    assert accepted(line, NOW, [1000, 100, 1500, 100]) == [0, 1, 2]
    assert accepted(line, NOW + MS - 1, [84]) == []
    assert accepted(line, NOW + MS, [84, 84]) == [0]


@pytest.mark.parametrize("limit", [{"limit_bytes": 100}, {"limit_segments": 1}])
def test_an_empty_queue_takes_one_segment(limit: dict[str, int]) -> None:
    line = queue(limit)
    assert accepted(line, NOW, [1500, 84]) == [0]
    assert accepted(line, NOW + 1_500_000, [1500, 84]) == [0]


@pytest.mark.parametrize("limit", [{"limit_bytes": 5000}, {"limit_segments": 4}, {"codel": True}, {}])
@given(
    steps=st.lists(st.tuples(st.integers(0, 9 * MS), st.lists(st.integers(84, 1538), min_size=1, max_size=9)))
)
def test_a_piece_is_taken_exactly_where_each_of_its_segments_is(
    limit: dict[str, int], steps: list[tuple[int, list[int]]]
) -> None:
    single, pieces, now = queue(limit), queue(limit), NOW
    for gap, found in steps:
        now += gap
        # The segments of a piece are counted as equally long, as those of a super-frame are.
        sizes = [found[0]] * len(found) if "limit_segments" in limit else found
        before = pieces.words()
        whole = pieces.offer(now, sum(sizes), len(sizes), ecn_capable=False)
        if isinstance(whole, Fate) and len(sizes) > 1:
            assert pieces.words()[:4] == before[:4]
            assert pieces.words()[-CODEL_WORDS:] == before[-CODEL_WORDS:]
            for octets in sizes:
                pieces.offer(now, octets, 1, ecn_capable=False)
        offers = [single.offer(now, octets, 1, ecn_capable=False) for octets in sizes]
        if not isinstance(whole, Fate):
            assert offers[-1] == whole
        assert pieces.words()[:4] == single.words()[:4]


def test_codel_drops_or_marks_what_stays_too_long() -> None:
    for ecn, capable, expected in (
        (False, True, Fate.AQM), (True, False, Fate.AQM), (True, True, None),
    ):  # fmt: skip
        line = queue({"codel": True, "ecn": ecn})
        fates, marks = set(), 0
        for index in range(1000):
            answer = line.offer(NOW + index * MS // 2, 1000, 1, ecn_capable=capable)
            fates.add(answer if isinstance(answer, Fate) else None)
            marks += line.marked
        assert fates == {None, expected}
        assert bool(marks) == (expected is None)


def test_the_limit_holds_beside_codel() -> None:
    line = queue({"codel": True, "limit_bytes": 2000})
    assert accepted(line, NOW, [1000] * 5) == [0, 1]


@pytest.mark.parametrize("parameters", [{"limit_segments": 5}, {"codel": True}, {"limit_bytes": 4000}])
def test_a_successor_goes_on(parameters: dict[str, int]) -> None:
    first, second = queue(parameters), queue(parameters)
    for index in range(2000):
        now = NOW + index * MS // 2
        second = queue(parameters, second.words())
        assert len(second.words()) == QUEUE_WORDS
        assert first.offer(now, 900, 1, ecn_capable=False) == second.offer(now, 900, 1, ecn_capable=False)


def test_a_limit_before_a_trace_counts_what_waits_for_opportunities() -> None:
    times = [10 * MS, 20 * MS]
    line = LineQueue(Opportunities(times, NOW, NEW), LineParameters(limit_bytes=4000), NEW)
    assert accepted(line, NOW, [1538] * 5) == [0, 1]
    assert accepted(line, NOW + 10 * MS, [1538] * 5) == [0]


def test_segments_that_left_long_ago_do_not_count() -> None:
    line = queue({"limit_segments": 100})
    for index in range(5):
        assert accepted(line, NOW + index * 10 * MS, [1000]) == [0]
    now = NOW + 60 * MS
    assert accepted(line, now, [1000] * 120) == list(range(100))
    assert accepted(line, now + 7 * MS, [1000] * 20) == list(range(7))
