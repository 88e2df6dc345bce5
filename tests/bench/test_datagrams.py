from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaird.bench.datagrams import Flood, Order
from epaird.bench.measure import shares


@given(st.lists(st.lists(st.integers(0, 50), min_size=1)))
def test_order(batches: list[list[int]]) -> None:
    order = Order()
    for batch in batches:
        order.take(batch)
    numbers = [number for batch in batches for number in batch]
    late = sum(any(earlier > number for earlier in numbers[:at]) for at, number in enumerate(numbers))
    assert order.reordered == late


def test_losses_are_no_disorder() -> None:
    order = Order()
    order.take([1, 2, 5])
    order.take([9, 12])
    assert order.reordered == 0


def test_a_flood_crosses_a_command_line() -> None:
    flood = Flood(("10.9.0.2", "10.9.1.2"), 64, 1, 0.5)
    assert Flood.from_json(flood.to_json()) == flood


@given(st.integers(1, 300), st.integers(0, 64))
def test_every_pair_has_one_sender(pairs: int, processes: int) -> None:
    dealt = shares(pairs, processes)
    assert sorted(pair for share in dealt for pair in share) == list(range(pairs))
    assert all(dealt)
    assert len(dealt) <= max(1, processes)
