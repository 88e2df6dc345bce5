"""A ring whose contents may be anything: its refusal, and its new beginning.

A worker that was compromised, or has a bug, may leave any bytes in a ring, and may go on to write as long as
it lives. No such content may end the next process that has the ring:

1. The size of the file is sealed: what is mapped stays there.
2. The state is copied when the ring is mapped, and judged then (:func:`epaird.ipc.ringfile.is_sound`). The
   records that it publishes are judged when a worker is given the ring (:func:`fault_of`). Where no line
   leaves such contents, the ring begins anew. What it held is counted as ``ierrors`` of the receiver,
   ``write_error``, and in segments as ``esegments`` of the line, whose counters go on from its slot of the
   ledger.
3. A deadline is bounded by the longest time for which the line can have held a frame (:func:`bound`).
4. Decisions whose state is not sound begin anew (:mod:`epaird.dataplane.impair.decisions`).
5. After that, only records and the difference are read from shared memory. A record that is counted is
   bounded by the total of the ring, and the kernel checks its frame like one of any program.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

from array import array
from operator import add
from typing import Final

from epaird.ipc.counters import (
    ESEGMENTS,
    HELD_FRAMES,
    IERRORS,
    IMPAIRED,
    ISEGMENTS,
    LATE_BUCKETS,
    LATE_BUCKETS_MAX,
    LATE_SUM_NS,
    OSEGMENTS,
    REASONS_MAX,
    REORDERED,
    WRITE_ERROR,
)
from epaird.ipc.ledger import WORD_MAX, Words
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import (
    COUNTERS,
    DECISIONS,
    DECISIONS_TIMES,
    DELIVERED,
    INTAKE,
    LATE,
    PAGE,
    RECORD,
    RELEASE,
    STATE_MAX,
    Held,
    restart,
    writing,
)

LOST: Final = "the frames that impairment held are lost, its ring begins anew"
"""The log line about a ring that begins anew, after the reason."""
_WORDS: Final = RECORD.size // 8
_HALVES: Final = RECORD.size // 4
_REFUSED: Final = IERRORS + WRITE_ERROR


def opened(fd: int, line: Words, receiver: Words | None, *, records: bool = False) -> tuple[Ring, str]:
    """Map a ring that no process has; return it and why it begins anew, or an empty string.

    ``line`` is the slot of its line, ``receiver`` that of the receiver that it holds frames for; with
    ``records``, these are judged, too. Raises ValueError where it can be no ring, or OSError."""
    try:
        ring = Ring(fd)
    except ValueError as error:
        fault = str(error)
    else:
        ring.complete()
        fault = fault_of(ring) if records else ""
        if not fault:
            return ring, ""
        ring.close()
    begin_anew(fd, line, receiver)
    return Ring(fd), fault


def fault_of(ring: Ring) -> str:
    """Return what no line leaves of the records of a ring, or an empty string."""
    if ring.head == ring.tail:
        return ""
    first, stop = ring.tail % ring.records, ring.head % ring.records
    frames = segments = octets = end = latest = 0
    for start, after in [(first, stop)] if first < stop else [(first, ring.records), (0, stop)]:
        part = ring.table[start * RECORD.size : after * RECORD.size]
        words, halves = part.cast("Q"), part.cast("I")
        latest = max(latest, max(words[0::_WORDS], default=0))
        end = max(end, max(map(add, words[1::_WORDS], halves[4::_HALVES]), default=0))
        segments += sum(halves[5::_HALVES])
        frames += sum(halves[6::_HALVES])
        octets += sum(words[5::_WORDS])
    if Held(frames, segments, octets) != ring.held():
        return "the records of a ring contradict its state"
    if end > ring.size:
        return "a record of a ring is beyond its data"
    if latest > ring.last:
        return "a record of a ring is due after the last one"
    return ""


def bound(ring: Ring, latest_ns: int) -> bool:
    """Have nothing that a ring holds be due after a time; return whether something was."""
    if ring.last <= latest_ns:
        return False
    for number in range(ring.tail, ring.head):
        due, *fields = ring.record(number)
        if due > latest_ns:
            ring.replace(number, RECORD.pack(latest_ns, *fields))
    ring.last = latest_ns
    times = array("Q", bytes(8 * len(ring.intake[DECISIONS_TIMES])))
    times[0] = latest_ns
    ring.intake[DECISIONS_TIMES] = times
    return True


def begin_anew(fd: int, line: Words, receiver: Words | None) -> int:
    """Make a ring, whatever is in it, an empty one with the counters that the slot of its line has, and count
    what it held; return how many frames that were.

    Raises ValueError where it can be no ring, or OSError."""
    restart(fd)
    # A worker can have written any number there, too.
    counts = array("Q", (min(word, STATE_MAX // 2) for word in line))
    frames, segments, _ = counts[HELD_FRAMES : HELD_FRAMES + 3]
    counters = array("Q", bytes(8 * (DECISIONS - COUNTERS)))
    counters[:HELD_FRAMES] = counts[:HELD_FRAMES]
    counters[OSEGMENTS] = counts[OSEGMENTS]
    counters[IMPAIRED : IMPAIRED + REASONS_MAX] = counts[IMPAIRED : IMPAIRED + REASONS_MAX]
    delivered = max(0, counts[ISEGMENTS] - counts[REORDERED])
    refused = counts[ESEGMENTS] + segments
    released = array("Q", (delivered, line[LATE_SUM_NS], refused))
    buckets = counts[LATE_BUCKETS : LATE_BUCKETS + LATE_BUCKETS_MAX]
    with writing(fd) as write:
        for page, word, words in (
            (INTAKE, COUNTERS, counters),
            (RELEASE, DELIVERED, released),
            (RELEASE, LATE, buckets),
        ):
            write(words.tobytes(), page * PAGE + 8 * word)
    line[HELD_FRAMES : HELD_FRAMES + 3] = memoryview(array("Q", (0, 0, 0)))
    line[ESEGMENTS] = refused
    if receiver is not None:
        receiver[_REFUSED] = min(WORD_MAX, receiver[_REFUSED] + frames)
    return frames
