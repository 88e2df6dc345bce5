"""The division of one frame by what hits its segments."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.decisions import Decisions
from epaird.dataplane.impair.division import Division
from epaird.dataplane.impair.fates import DROPS, Fate, Hit
from epaird.dataplane.impair.pieces import wire_octets
from epaird.dataplane.superframe import Shape
from epaird.ipc.impairment import LineParameters, LineSpec

SIZE = 1000
HEADERS = 64


def shape(segments: int) -> Shape:
    return Shape(HEADERS, SIZE, segments, HEADERS + segments * SIZE - 1, 24, 44, True, True)


def divided(segments: int, *hits: Hit, takes: bool = True, **parameters: int) -> Division:
    decisions = Decisions(LineSpec(parameters=LineParameters(**parameters)))  # type: ignore[arg-type]
    decisions.judge(0, [1] * segments)

    def overtake(_segment: int, fates: Collection[Fate]) -> bool:
        return takes and Fate.REORDER in fates

    division = Division(decisions, shape(segments), 0, markable=False, overtake=overtake)
    division.divide(hits)
    return division


def ranges(division: Division) -> list[tuple[int, int]]:
    return [(part.start, part.stop) for part in division.parts]


def test_a_lost_segment_leaves_two_parts() -> None:
    division = divided(45, Hit(7, Fate.LOSS))
    assert ranges(division) == [(0, 7), (8, 45)]
    assert division.dropped == 1


def test_a_segment_that_is_delivered_twice_divides_nothing() -> None:
    division = divided(45, Hit(7, Fate.DUPLICATE))
    assert ranges(division) == [(0, 45)]
    assert division.twice == [7]


def test_a_corrupt_segment_is_a_part_of_its_own() -> None:
    division = divided(10, Hit(0, Fate.CORRUPT), Hit(9, Fate.CORRUPT))
    assert ranges(division) == [(0, 1), (1, 9), (9, 10)]
    assert [part.fate for part in division.parts] == [Fate.CORRUPT, None, Fate.CORRUPT]


def test_a_mark_of_a_replay_is_done() -> None:
    division = divided(10, Hit(4, Fate.MARK))
    assert [(part.start, part.stop, part.fate) for part in division.parts] == [
        (0, 4, None), (4, 5, Fate.MARK), (5, 10, None),
    ]  # fmt: skip
    assert division.fates == [(4, Fate.MARK)]


def test_what_cannot_overtake_stays_in_its_place() -> None:
    assert ranges(divided(3, Hit(1, Fate.REORDER))) == [(0, 1), (2, 3)]
    assert ranges(divided(3, Hit(1, Fate.REORDER), takes=False)) == [(0, 1), (1, 2), (2, 3)]


def test_at_a_low_rate_parts_take_a_millisecond_each() -> None:
    division = divided(45, rate=20_000_000)
    assert ranges(division) == [(each, min(each + 2, 45)) for each in range(0, 45, 2)]
    deadlines = [part.deadline for part in division.parts]
    assert deadlines == sorted(set(deadlines))


def test_a_limit_drops_single_segments() -> None:
    division = divided(45, rate=1_000_000, limit_segments=10)
    assert len(division.parts) + division.dropped == 45
    assert 10 <= len(division.parts) <= 12
    assert {fate for _, fate in division.fates} == {Fate.QUEUE_FULL}


HITS = st.lists(
    st.tuples(st.integers(0, 29), st.sampled_from(sorted(Fate)[:6])),
    max_size=12,
    unique_by=lambda hit: hit[0],
)


@given(HITS, st.booleans())
def test_every_segment_has_one_fate(hits: list[tuple[int, Fate]], takes: bool) -> None:
    division = divided(30, *(Hit(*hit) for hit in sorted(hits)), takes=takes)
    kept = [segment for start, stop in ranges(division) for segment in range(start, stop)]
    assert kept == sorted(kept)
    dropped = [segment for segment, fate in division.fates if fate in DROPS]
    assert len(kept) + len(dropped) + division.overtaken == 30
    assert not set(kept) & set(dropped)
    assert not set(division.twice) & set(dropped)


def test_the_octets_of_a_part_are_those_of_its_segments() -> None:
    """The last segment is shorter."""
    division = divided(5, rate=1_000_000_000)
    octets = sum(wire_octets(shape(5), segment) for segment in range(5))
    assert division.parts[-1].deadline == octets * 8
