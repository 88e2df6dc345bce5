"""Rare changes of a ring: its oldest record is divided, all of it is copied, its memory is given back.

As all of :mod:`epaird.ipc.ring`, they can be interrupted at any instruction. This module is imported by
worker processes: it uses the standard library only.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from epaird.ipc.ledger import WORD_MAX
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import (
    DIFFERENCE,
    MULTICAST,
    PAGE,
    RECORD,
    REPLACED,
    TABLE,
    TAIL,
)

KEEP_FIELD: Final = 8
"""Field of a record that has the offset from which on the data must stay."""
DATA_KEPT: Final = 4 << 20
"""Bytes of data whose memory an empty ring keeps, so that short queues cost nothing."""

PIECE: Final = 2 << 20
"""Bytes of data that are copied at once."""


def unjoin(ring: Ring, frames: Sequence[bytes], header: int) -> bool:
    """Replace the oldest record by one for each of the frames that were joined in it, which start with
    ``header`` bytes that do not count; False where there is no room."""
    number, more = ring.tail, len(frames) - 1
    offset = ring.place(sum(map(len, frames)))
    if offset < 0 or number < more or ring.records - (ring.head - number) <= more:
        return False
    due, _, _, _, _, flags, arrival, _, keep, queue = ring.record(number)
    records = []
    for frame in frames:
        length = len(frame)
        ring.data[offset : offset + length] = frame
        records.append(
            RECORD.pack(due, offset, length, 1, 1, flags & MULTICAST, arrival, length - header, keep, queue)
        )
        offset += length
    for place, record in enumerate(records[:-1], number - more):
        ring.replace(place, record)
    ring.write = offset
    ring.commit_intake()
    # Before the commit: settle() then finds nothing that was released.
    ring.state[DIFFERENCE] = (ring.state[DIFFERENCE] + more) & WORD_MAX
    release = ring.release
    release[TAIL] = number - more
    release[REPLACED] = number + 1
    release[REPLACED + 1 : REPLACED + 1 + RECORD.size // 8] = array("Q", records[-1])
    ring.commit_release()
    ring.replace(number, records[-1])
    return True


def copy(ring: Ring, larger: Ring) -> Iterator[None]:
    """Make a new ring, of at least the same size, what another one is, which no process has meanwhile.

    Yields after each piece, which takes some milliseconds: a whole ring may take a second. Data stays where
    it is: its area may then end in the middle until that is used again."""
    ring.complete()
    write = min(ring.write, ring.size)
    start = min(ring.record(ring.tail)[KEEP_FIELD], ring.size) if ring.head > ring.tail else write
    for first, stop in [(start, write)] if start <= write else [(start, ring.size), (0, write)]:
        for begin in range(first, stop, PIECE):
            end = min(begin + PIECE, stop)
            larger.data[begin:end] = ring.data[begin:end]
            yield
    number = ring.tail
    while number < ring.head:
        at, to = number % ring.records, number % larger.records
        count = min(ring.head - number, ring.records - at, larger.records - to, PIECE // RECORD.size)
        records = ring.table[at * RECORD.size : (at + count) * RECORD.size]
        larger.table[to * RECORD.size : (to + count) * RECORD.size] = records
        number += count
        yield
    larger.log[:] = ring.log
    larger.state[DIFFERENCE] = ring.state[DIFFERENCE]
    larger.intake[:], larger.release[:] = ring.intake, ring.release
    larger.head, larger.write, larger.last = ring.head, ring.write, ring.last
    larger.commit_intake()
    larger.commit_release()


def give_back(ring: Ring) -> None:
    """Return the memory of a ring that holds nothing to the system, but for the data that is used first."""
    start = TABLE * PAGE
    data = start + ring.records * RECORD.size
    ring.forget(start, data - start)
    ring.forget(data + DATA_KEPT, ring.size - DATA_KEPT)
