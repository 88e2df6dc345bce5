"""Rare changes of a ring: its oldest record is divided, all of it is copied, its memory is given back.

As all of :mod:`epaird.ipc.ring`, they can be interrupted at any instruction. This module is imported by
worker processes: it uses the standard library only.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

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

_OUTSIDE: Final = "a record of a ring is outside of its data"
DATA_KEPT: Final = 4 << 20
"""Bytes of data whose memory an empty ring keeps, so that short queues cost nothing."""


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
    ring.state[DIFFERENCE] += more  # before the commit: settle() then finds nothing that was released
    release = ring.release
    release[TAIL] = number - more
    release[REPLACED] = number + 1
    release[REPLACED + 1 : REPLACED + 1 + RECORD.size // 8] = array("Q", records[-1])
    ring.commit_release()
    ring.replace(number, records[-1])
    return True


def copy(ring: Ring, larger: Ring) -> None:
    """Make a new ring, of at least the same size, what another one is, which no worker has.

    Raises ValueError for records that no worker makes; the new ring is then as it was."""
    ring.complete()
    start = ring.record(ring.tail)[-2] if ring.head > ring.tail else ring.write
    if start > ring.size:
        raise ValueError(_OUTSIDE)
    # The data may continue at the beginning of its area.
    pieces = [(start, ring.write)] if start <= ring.write else [(start, ring.size), (0, ring.write)]
    to = 0
    moved = []
    for first, stop in pieces:
        larger.data[to : to + stop - first] = ring.data[first:stop]
        moved.append((first, stop, to - first))
        to += stop - first

    def place(offset: int) -> int:
        for first, stop, by in moved:
            if first <= offset <= stop:
                return offset + by
        raise ValueError(_OUTSIDE)

    for number in range(ring.tail, ring.head):
        due, offset, length, segments, put, flags, arrival, octets, keep, queue = ring.record(number)
        larger.replace(
            number,
            RECORD.pack(
                due, place(offset), length, segments, put, flags, arrival, octets, place(keep), queue
            ),
        )
    larger.log[:] = ring.log
    larger.state[DIFFERENCE] = ring.state[DIFFERENCE]
    larger.intake, larger.release = array("Q", ring.intake), array("Q", ring.release)
    larger.release[REPLACED] = 0
    larger.head, larger.write, larger.last = ring.head, to, ring.last
    larger.commit_intake()
    larger.commit_release()


def give_back(ring: Ring) -> None:
    """Return the memory of a ring that holds nothing to the system, but for the data that is used first."""
    start = TABLE * PAGE
    data = start + ring.records * RECORD.size
    ring.forget(start, data - start)
    ring.forget(data + DATA_KEPT, ring.size - DATA_KEPT)
