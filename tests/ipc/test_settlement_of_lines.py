"""The account of a worker that died with a line: only frames between read and commit are lost."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc import ring
from epaird.ipc.counters import (
    CUT,
    DUPLICATED,
    HELD_FRAMES,
    IERRORS,
    IMPAIRED,
    IPACKETS,
    OPACKETS,
    WORKER_LOST,
)  # fmt: skip
from epaird.ipc.ledger import SLOT_BYTES, Words
from epaird.ipc.ringfile import COUNTERS
from epaird.ipc.settlement import LineAccount, correction, settle, settle_line

FEW = st.integers(0, 40)


def slot() -> Words:
    return memoryview(bytearray(SLOT_BYTES)).cast("Q")


@given(FEW, FEW, FEW, FEW, FEW, st.data())
@pytest.mark.parametrize("queues", [1, 2])
def test_what_is_in_the_ring_is_not_lost(
    queues: int, held: int, in_hand: int, cut: int, doubled: int, base: int, data: st.DataObject
) -> None:
    fd = ring.create("test", 1 << 20)
    with contextlib.closing(ring.Ring(fd)) as mapped:
        # Every frame of a cut or doubled segment has a fate: it is held, or was dropped.
        dropped = data.draw(st.integers(max(0, cut + doubled - held), cut + doubled + 5))
        written = data.draw(st.integers(0, held))
        read = base + held + dropped - cut - doubled + in_hand
        senders, receivers, words = [slot() for _ in range(queues)], [slot() for _ in range(queues)], slot()
        mapped.discard(receivers[0])
        for _ in range(held):
            offset = mapped.place(64)
            mapped.put(0, offset, 64, 1, 1, 0, 0, 52, offset)
            mapped.write = offset + 64
        intake = mapped.intake
        intake[COUNTERS + CUT], intake[COUNTERS + DUPLICATED] = cut, doubled
        intake[COUNTERS + IMPAIRED] = dropped
        mapped.commit_intake()
        senders[0][OPACKETS] = data.draw(st.integers(base, read))
        line = LineAccount(words, mapped)
        if queues == 1:
            settle(senders[0], receivers[0], read=read, written=written, base=base, line=line)
            lost = receivers[0][IERRORS + WORKER_LOST]
        else:
            settle_line(receivers, line, written=written)
            senders[0][OPACKETS] = read
            lost = correction(senders, receivers, read=read, written=written, base=base, line=words).lost
        assert receivers[0][IPACKETS] == written
        assert words[HELD_FRAMES] == held - written
        assert lost == in_hand
    os.close(fd)
