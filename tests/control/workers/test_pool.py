"""How cables are shared among workers; that none is lost on the way is shown by the reloads."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from epaird.control.workers.pool import shared

ASSIGNED = st.dictionaries(st.integers(0, 99), st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple))


@given(ASSIGNED, st.integers(1, 6))
def test_everybody_has_as_much_as_anybody_and_little_is_moved(
    assigned: dict[int, tuple[int, ...]], count: int
) -> None:
    moved = shared(assigned, count)
    after = assigned | moved
    loads = Counter(number for numbers in after.values() for number in numbers)
    assert set(loads) <= set(range(count))
    total = sum(loads.values())
    assert all(loads[number] in (total // count, -(-total // count)) for number in range(count))
    assert {each: len(numbers) for each, numbers in after.items()} == {
        each: len(numbers) for each, numbers in assigned.items()
    }
    before = Counter(number for numbers in assigned.values() for number in numbers)
    needed = sum(max(0, before[number] - -(-total // count)) for number in range(count))
    homeless = sum(before[number] for number in before if number >= count)
    steps = sum(a != b for each in moved for a, b in zip(moved[each], assigned[each], strict=True))
    assert steps <= needed + homeless + count


def test_who_has_enough_is_left_alone() -> None:
    assert shared({"x": (0,), "y": (1,)}, 2) == {}
    assert shared({}, 3) == {}
