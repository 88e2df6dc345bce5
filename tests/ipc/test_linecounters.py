"""The counters of a ring that its line's slot shows."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc.counters import (
    CUT,
    ESEGMENTS,
    FULL,
    HELD_FRAMES,
    HELD_SEGMENTS,
    IMPAIRED,
    ISEGMENTS,
    LATE_BUCKETS,
    LATE_BUCKETS_MAX,
    LATE_SUM_NS,
    LINE_HELD_BYTES,
    MARKED,
    OSEGMENTS,
    REASONS_MAX,
    REORDERED,
    SLOT_WORDS,
    TARGET,
)
from epaird.ipc.linecounters import mirror, mirror_held, mirror_released
from epaird.ipc.ringfile import (
    COUNTERS,
    DELIVERED,
    FRAMES,
    HELD,
    INTAKE_WORDS,
    LATE,
    LATE_SUM,
    OUT,
    REFUSED,
    RELEASE_WORDS,
)

NUMBERS = st.integers(0, 1 << 61)
OTHERS = 7


def states(words: int) -> st.SearchStrategy[array[int]]:
    return st.lists(NUMBERS, min_size=words, max_size=words).map(lambda numbers: array("Q", numbers))


def slot() -> memoryview:
    return memoryview(array("Q", [OTHERS] * SLOT_WORDS))


@given(states(INTAKE_WORDS), states(RELEASE_WORDS))
def test_all_of_them_and_nothing_else(intake: array[int], release: array[int]) -> None:
    words = slot()
    mirror(intake, release, words)
    expected = [OTHERS] * SLOT_WORDS
    expected[CUT : MARKED + 1] = intake[COUNTERS + CUT : COUNTERS + MARKED + 1]
    held = [max(0, intake[FRAMES + number] - release[OUT + number]) for number in HELD]
    expected[HELD_FRAMES], expected[HELD_SEGMENTS], expected[LINE_HELD_BYTES] = held
    expected[OSEGMENTS] = intake[COUNTERS + OSEGMENTS]
    expected[ISEGMENTS] = release[DELIVERED] + intake[COUNTERS + REORDERED]
    expected[ESEGMENTS] = release[REFUSED] + intake[COUNTERS + ESEGMENTS]
    expected[LATE_SUM_NS] = release[LATE_SUM]
    first = COUNTERS + IMPAIRED
    expected[IMPAIRED : IMPAIRED + REASONS_MAX] = intake[first : first + REASONS_MAX]
    expected[LATE_BUCKETS : LATE_BUCKETS + LATE_BUCKETS_MAX] = release[LATE : LATE + LATE_BUCKETS_MAX]
    assert words.tolist() == expected
    assert words[TARGET] == words[FULL] == OTHERS


@given(states(INTAKE_WORDS), states(RELEASE_WORDS), states(RELEASE_WORDS))
def test_a_release_and_an_intake_without_hits_need_a_part(
    intake: array[int], before: array[int], release: array[int]
) -> None:
    words, whole = slot(), slot()
    mirror(intake, before, words)
    mirror_released(intake, release, words)
    mirror(intake, release, whole)
    assert words == whole
    intake[COUNTERS + OSEGMENTS] += 1
    intake[FRAMES] += 1
    mirror_held(intake, release, words)
    mirror(intake, release, whole)
    assert words == whole
