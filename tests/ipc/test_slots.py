"""The allocation of slots."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc import ledger
from epaird.ipc.ledger import Table
from epaird.ipc.slots import LedgerFull, Slots


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create(4)
    yield table
    os.close(table.fd)


@given(st.lists(st.booleans(), max_size=30))
def test_slots_are_handed_out_lowest_first_zeroed_and_never_twice(steps: list[bool]) -> None:
    table = Table.create(4)
    try:
        slots, held = Slots(table), list[int]()
        for take in steps:
            if take and len(held) < 4:
                slot = slots.take()
                assert slot == min(set(range(4)) - set(held))
                assert not any(table.slot(slot))
                table.slot(slot)[:] = memoryview(b"\1" * ledger.SLOT_BYTES).cast("Q")
                held.append(slot)
            elif take:
                with pytest.raises(LedgerFull, match="there can be 4 queues"):
                    slots.take()
            elif held:
                slots.release(held.pop())
    finally:
        os.close(table.fd)


def test_a_released_slot_is_taken_again_only_after_it_has_rested(table: Table) -> None:
    slots = Slots(table, resting=True)
    first, second = slots.take(), slots.take()
    slots.release(first)
    assert slots.take() == second + 1
    slots.rested()
    assert slots.take() == first
    slots.rested()
    assert slots.take() == second + 2
