"""The account of a worker that was taken over: it can write any number to any slot of the ledger."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc.counters import SLOT_WORDS
from epaird.ipc.settlement import amend, correction, end_process, settle, settle_unplugged

WORDS = st.one_of(st.integers(0, (1 << 64) - 1), st.just((1 << 64) - 1))
FRAMES = st.integers(0, 1 << 40)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, SLOT_WORDS - 1), WORDS), max_size=8), FRAMES, FRAMES)
def test_any_numbers_in_the_slots_are_settled(
    stored: list[tuple[bool, int, int]], read: int, written: int
) -> None:
    sender, receiver = (memoryview(bytearray(SLOT_WORDS * 8)).cast("Q") for _ in range(2))
    for first, word, value in stored:
        (sender if first else receiver)[word] = value
    joinings = [end_process(sender, receiver)]
    missing = correction([sender], [receiver], read=read, written=written, base=0, joinings=joinings)
    assert max(missing.sent, missing.delivered, missing.datagrams, missing.lost) < 1 << 64
    amend(sender, receiver, missing)
    settle(sender, receiver, read=read, written=written)
    settle_unplugged(sender, read=read)
