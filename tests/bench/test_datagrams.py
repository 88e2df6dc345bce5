from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaird.bench.datagrams import Flood, Order


@given(st.lists(st.lists(st.integers(0, 50), min_size=1)))
def test_order(batches: list[list[int]]) -> None:
    order = Order()
    for batch in batches:
        order.take(batch)
    numbers = [number for batch in batches for number in batch]
    late = sum(any(earlier > number for earlier in numbers[:at]) for at, number in enumerate(numbers))
    assert order.reordered == late


def test_losses_are_not_reordering() -> None:
    order = Order()
    order.take([1, 2, 5])
    order.take([9, 12])
    assert order.reordered == 0


def test_a_flood_survives_its_encoding() -> None:
    flood = Flood(("10.9.0.2", "10.9.1.2"), 64, 1, 0.5)
    assert Flood.from_json(flood.to_json()) == flood
