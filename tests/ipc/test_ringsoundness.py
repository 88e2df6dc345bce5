"""Contents of a ring that are refused, and the new beginning of such a ring."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc.counters import (
    ESEGMENTS,
    HELD_FRAMES,
    IERRORS,
    IMPAIRED,
    ISEGMENTS,
    LATE_BUCKETS,
    LATE_SUM_NS,
    OSEGMENTS,
    REORDERED,
    SLOT_WORDS,
    WRITE_ERROR,
)
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import (
    DECISIONS_TIMES,
    HEAD,
    INTAKE,
    PAGE,
    RECORD,
    RELEASE,
    REPLACED,
    TABLE,
    TAIL,
    Held,
    Released,
    create,
    logged,
)
from epaird.ipc.ringsoundness import begin_anew, bound, fault_of, opened

COUNTS = st.integers(0, (1 << 64) - 1)


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create("epair0a", 1)
    yield fd
    os.close(fd)


def slot() -> memoryview:
    return memoryview(bytearray(SLOT_WORDS * 8)).cast("Q")


def put(ring: Ring, deadline: int = 1) -> None:
    offset = ring.place(100)
    ring.write = offset + 100
    ring.put(deadline, offset, 100, 1, 1, 0, 0, 90, offset)


@pytest.mark.parametrize(
    ("field", "form", "value", "fault"),
    [
        (0, "=Q", 2, "a record of a ring is due after the last one"),
        (8, "=Q", 1 << 25, "a record of a ring is beyond its data"),
        (16, "=I", 0xFFFF_FFFF, "a record of a ring is beyond its data"),
        (20, "=I", 2, "the records of a ring contradict its state"),
        (24, "=I", 0, "the records of a ring contradict its state"),
        (40, "=Q", (1 << 64) - 1, "the records of a ring contradict its state"),
        (32, "=Q", (1 << 64) - 1, ""),  # the arrival, which nothing depends on
    ],
)
@pytest.mark.parametrize("beside_the_end", [False, True])
def test_each_field_of_a_record_is_judged(
    fd: int, field: int, form: str, value: int, fault: str, beside_the_end: bool
) -> None:
    if beside_the_end:  # the records of the ring continue at the start of the table
        with closing(Ring(fd)) as ring:
            start = ring.records - 3
        for page, word in ((INTAKE, HEAD), (RELEASE, TAIL)):
            os.pwrite(fd, struct.pack("=Q", start), page * PAGE + 8 * word)
    with closing(Ring(fd)) as ring:
        for _ in range(7):
            put(ring)
        ring.commit_intake()
        assert fault_of(ring) == ""
        place = (ring.tail + 5) % ring.records
        os.pwrite(fd, struct.pack(form, value), TABLE * PAGE + place * RECORD.size + field)
        assert fault_of(ring) == fault


def test_what_is_not_published_is_not_judged(fd: int) -> None:
    with closing(Ring(fd)) as ring:
        put(ring)
        put(ring)
        ring.commit_intake()
        gone = Released()
        gone.add(ring.record(ring.tail))
        ring.released(gone, slot())
        for place in (0, 2):
            os.pwrite(fd, b"\xff" * RECORD.size, TABLE * PAGE + place * RECORD.size)
        assert fault_of(ring) == ""


def test_what_is_due_too_late_is_due_at_the_latest_time(fd: int) -> None:
    with closing(Ring(fd)) as ring:
        for deadline in (5, 50, 60, 500):
            put(ring, deadline)
        ring.decide(tuple(range(1, 45)))
        ring.commit_intake()
        assert not bound(ring, 500)
        assert bound(ring, 60)
        ring.commit_intake()
    with closing(Ring(fd)) as other:
        assert [other.record(other.tail + number)[0] for number in range(4)] == [5, 50, 60, 60]
        assert other.last == 60
        times = other.intake[DECISIONS_TIMES]
        assert times[0] == 60
        assert not any(times[1:])
        assert fault_of(other) == ""


@given(st.lists(COUNTS, min_size=SLOT_WORDS, max_size=SLOT_WORDS), COUNTS)
def test_whatever_the_slot_has_a_ring_begins_anew_with_it(counts: list[int], errors: int) -> None:
    fd, line, receiver = create("epair0a", 1), slot(), slot()
    os.pwrite(fd, b"\xff" * TABLE * PAGE, 0)
    for word, count in enumerate(counts):
        line[word] = count
    receiver[IERRORS + WRITE_ERROR] = errors
    ring, fault = opened(fd, line, receiver, records=True)
    assert fault == "not a ring of this version"
    with closing(ring):
        assert ring.held() == Held()
        assert receiver[IERRORS + WRITE_ERROR] >= errors
        ring.mirror(line)
        put(ring)
        ring.commit_intake()
    if max(counts) < 1 << 61:
        assert line[OSEGMENTS] == counts[OSEGMENTS]
        assert line[ISEGMENTS] == max(counts[ISEGMENTS], counts[REORDERED])
        assert line[ESEGMENTS] == counts[ESEGMENTS] + counts[HELD_FRAMES + 1]
        assert line[LATE_SUM_NS] == counts[LATE_SUM_NS]
    os.close(fd)


def test_what_can_be_no_ring_does_not_begin_anew(fd: int) -> None:
    other = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.ftruncate(other, os.fstat(fd).st_size)
    with pytest.raises(ValueError, match="not a ring: its size is not sealed"):
        begin_anew(other, slot(), None)
    os.close(other)


def maps() -> int:
    return Path("/proc/self/maps").read_text().count("epaird-ring")


def test_a_ring_that_a_line_has_left_is_opened_as_it_is(fd: int) -> None:
    """A record may end where the data does, and be due with the last one; the last that was replaced is
    stored again."""
    line, receiver = slot(), slot()
    with closing(Ring(fd)) as ring:
        put(ring)
        ring.put(1, ring.size - 100, 100, 1, 1, 0, 0, 90, ring.size - 100)
        ring.decide((1, 2, 3))
        ring.commit_intake()
        number, joined = ring.tail + 1, ring.record(ring.tail + 1)
        ring.release[REPLACED] = number + 1
        ring.release[REPLACED + 1 : REPLACED + 1 + RECORD.size // 8] = array("Q", RECORD.pack(*joined))
        ring.commit_release()
        ring.replace(number, bytes(RECORD.size))
    for records in (True, False):
        ring, fault = opened(fd, line, receiver, records=records)
        with closing(ring):
            assert (fault, ring.held(), ring.decided()) == ("", Held(2, 2, 180), (1, 2, 3))
            assert ring.record(number) == joined
    assert not any(receiver)
    assert not maps()


def test_a_whole_table_of_records_is_judged(fd: int) -> None:
    with closing(Ring(fd)) as ring:
        for _ in range(ring.records):
            ring.put(1, 0, 10, 1, 1, 0, 0, 5, 0)
        ring.commit_intake()
        assert fault_of(ring) == ""
        os.pwrite(fd, struct.pack("=Q", 2), TABLE * PAGE + 9 * RECORD.size)
        assert fault_of(ring) == "a record of a ring is due after the last one"


def test_records_are_judged_only_where_that_is_asked_for(fd: int) -> None:
    line, receiver = slot(), slot()
    line[HELD_FRAMES], line[HELD_FRAMES + 1], line[HELD_FRAMES + 2] = 3, 4, 5
    for word, count in enumerate(range(100, 116)):
        line[IMPAIRED + word], line[LATE_BUCKETS + word] = count, 2 * count
    with closing(Ring(fd)) as ring:
        put(ring)
        ring.note(7, 1)
        ring.decide((1, 2, 3))
        ring.commit_intake()
        ring.replace(ring.tail, bytes(RECORD.size))
    before = line.tolist()
    ring, fault = opened(fd, line, receiver)
    ring.close()
    assert fault == ""
    ring, fault = opened(fd, line, receiver, records=True)
    before[HELD_FRAMES : HELD_FRAMES + 3] = 0, 0, 0
    before[ESEGMENTS] += 4
    with closing(ring):
        assert fault == "the records of a ring contradict its state"
        assert (ring.held(), ring.decided(), logged(fd)) == (Held(), (), [])
        assert line.tolist() == before
        ring.mirror(line)
    assert line.tolist() == before
    assert receiver[IERRORS + WRITE_ERROR] == 3 == sum(receiver)
    assert not maps()
