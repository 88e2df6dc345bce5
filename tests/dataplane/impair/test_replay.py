"""Replay: what the file says, for every division of the traffic."""

from __future__ import annotations

from array import array
from itertools import accumulate, groupby
from operator import itemgetter

from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.fates import DROPS, Fate, Hit
from epaird.dataplane.impair.replay import Replay
from epaird.dataplane.impair.streams import NEVER

entries = st.lists(st.tuples(st.integers(0, 300), st.sampled_from(list(Fate))), max_size=40).map(sorted)


def flat(found: list[tuple[int, Fate]]) -> array[int]:
    return array("Q", [number for entry in found for number in entry])


@given(entries, st.integers(0, 1000), st.lists(st.integers(1, 50), max_size=20))
def test_every_entry_comes_once_and_at_its_segment(
    found: list[tuple[int, Fate]], origin: int, parts: list[int]
) -> None:
    parts = [*parts, 301]
    replay = Replay(flat(found), origin, origin)
    repeated = []
    for before, part in zip(accumulate(parts, initial=0), parts, strict=False):
        quiet = replay.next >= origin + before + part
        hits = replay.hits(origin + before, 0, [84] * part, 0)
        assert not (quiet and hits)
        repeated += [(before + hit.segment, hit.fate) for hit in hits]
        replay = Replay(flat(found), origin, origin + before + part)
    dropped = {segment: fate for segment, fate in reversed(found) if fate in DROPS}
    once = [
        entry for segment, entries in groupby(found, itemgetter(0)) for entry in
        ([(segment, dropped[segment])] if segment in dropped else entries)
    ]  # fmt: skip
    assert repeated == once
    assert replay.next == NEVER


def test_unknown_fates_and_an_odd_number_are_ignored() -> None:
    replay = Replay([1, 0, 2, 2**63, 3, Fate.AQM, 4], 0, 0)
    assert replay.hits(0, 0, [84] * 10, 0) == [Hit(3, Fate.AQM)]


def test_what_is_out_of_order_is_ignored() -> None:
    replay = Replay([5, Fate.LOSS, 1, Fate.LOSS, 7, Fate.LOSS], 0, 0)
    assert not replay.hits(0, 0, [84] * 5, 0)
    assert replay.hits(5, 0, [84] * 5, 0) == [Hit(0, Fate.LOSS), Hit(2, Fate.LOSS)]


def test_what_is_dropped_has_no_other_fate() -> None:
    replay = Replay([3, Fate.DUPLICATE, 3, Fate.QUEUE_FULL, 3, Fate.AQM, 4, Fate.CORRUPT], 0, 0)
    assert replay.hits(0, 0, [84] * 9, 0) == [Hit(3, Fate.QUEUE_FULL), Hit(4, Fate.CORRUPT)]
