"""Rare changes of a ring, which its writer may be killed in."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ipc.counters import COALESCED_DATAGRAMS, COALESCED_SUPERFRAMES, IMCASTS, IPACKETS, SLOT_WORDS
from epaird.ipc.ring import Ring
from epaird.ipc.ringchanges import DATA_KEPT, copy, give_back, unjoin
from epaird.ipc.ringfile import JOINED, KEEP, MULTICAST, RECORD, SLACK, Held, Released, create, logged
from epaird.ipc.ringsoundness import fault_of

HEADER = 10
SINGLE = [bytes([number]) * 60 for number in range(5)]


@contextmanager
def opened(buffer: int = 1) -> Iterator[int]:
    fd = create("epair0a", buffer)
    yield fd
    os.close(fd)


def slot() -> memoryview:
    return memoryview(bytearray(SLOT_WORDS * 8)).cast("Q")


def put(ring: Ring, contents: bytes, frames: int = 1, flags: int = 0) -> None:
    offset = ring.place(len(contents))
    ring.data[offset : offset + len(contents)] = contents
    ring.write = offset + len(contents)
    ring.put(5, offset, len(contents), frames, frames, flags, 0, 50 * frames, offset)


def contents(ring: Ring) -> list[bytes]:
    """Return what would be written to the receiver."""
    records = map(ring.record, range(ring.tail, ring.head))
    return [bytes(ring.data[record[1] : record[1] + record[2]]) for record in records]


def delivered(ring: Ring, words: memoryview) -> None:
    """Deliver everything, as a worker does."""
    gone = Released()
    for number in range(ring.tail, ring.head):
        gone.add(ring.record(number))
    ring.released(gone, words)


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", ["commit_intake", "commit_release", "replace", ""])
@pytest.mark.parametrize("calls", range(5))
def test_a_writer_killed_while_it_divides_a_record_loses_and_doubles_nothing(step: str, calls: int) -> None:
    words = slot()
    with opened() as fd:
        with closing(Ring(fd)) as ring:
            ring.rest(words)
            put(ring, b"joined", 5, JOINED | MULTICAST)
            put(ring, b"next")
            ring.commit_intake()
            left = calls

            def dying(*arguments: int) -> None:
                nonlocal left
                if not left:
                    raise Killed
                left -= 1
                getattr(Ring, step)(ring, *arguments)

            if step:
                setattr(ring, step, dying)
            with suppress(Killed):
                assert unjoin(ring, SINGLE, HEADER)
        for _ in range(2):
            with closing(Ring(fd)) as other:
                other.settle(0, words)
                assert not fault_of(other)
                assert other.held() == Held(6, 6, 300)
                assert contents(other) in ([b"joined", b"next"], [*SINGLE, b"next"])
        with closing(Ring(fd)) as other:
            joined = len(contents(other)) == 2
            delivered(other, words)
            assert other.held() == Held()
    assert (words[IPACKETS], words[IMCASTS]) == (6, 5)
    assert (words[COALESCED_SUPERFRAMES], words[COALESCED_DATAGRAMS]) == ((1, 5) if joined else (0, 0))


def test_datagrams_that_were_written_singly_are_counted_singly() -> None:
    """Two of five were written when the process was killed, and none was counted."""
    words = slot()
    with opened() as fd:
        with closing(Ring(fd)) as ring:
            ring.rest(words)
            put(ring, b"joined", 5, JOINED)
            ring.commit_intake()
            assert unjoin(ring, SINGLE, HEADER)
        with closing(Ring(fd)) as other:
            assert other.settle(2, words).records == 2
            assert contents(other) == SINGLE[2:]
            assert other.held().frames == 3
    assert words[IPACKETS] == 2


def test_a_record_is_not_divided_where_there_is_no_room() -> None:
    with opened() as fd, closing(Ring(fd)) as ring:
        put(ring, bytes(ring.size - 100), 5, JOINED)
        ring.commit_intake()
        assert not unjoin(ring, SINGLE, HEADER)
        assert ring.held().frames == 5


@given(st.lists(st.tuples(st.integers(1, 3_000_000), st.integers(0, 4)), max_size=40))
def test_a_copy_holds_the_same(steps: list[tuple[int, int]]) -> None:
    words = slot()
    live: deque[bytes] = deque()
    with opened() as fd, opened(1 << 26) as other, closing(Ring(fd)) as ring:
        for number, (octets, released) in enumerate(steps):
            if ring.place(octets + 20) >= 0:
                live.append(b"%20d" % number)
                put(ring, live[-1] + bytes(octets))
                ring.note(number, 1)
                ring.decide((1, 2, number))
            ring.commit_intake()
            gone = Released()
            for _ in range(min(released, len(live))):
                gone.add(ring.record(ring.tail + gone.records))
                live.popleft()
            ring.released(gone, words)
        ring.rest(words)
        with closing(Ring(other)) as larger:
            for _ in copy(ring, larger):
                pass
        with closing(Ring(other)) as larger:
            assert larger.held() == ring.held()
            assert not fault_of(larger)
            assert [each[:20] for each in contents(larger)] == list(live)
            assert larger.decided() == ring.decided()
            assert logged(larger.fd) == logged(ring.fd)
            before = words[IPACKETS]
            larger.settle(before + len(live), words)
            assert (words[IPACKETS], larger.held()) == (before + len(live), Held())
            assert larger.place(SLACK) == 0


def test_an_empty_ring_gives_its_memory_back() -> None:
    words = slot()
    with opened(1 << 26) as fd, closing(Ring(fd)) as ring:
        for number in range(16):
            put(ring, bytes([number + 1]) * (1 << 20))
        ring.commit_intake()
        assert os.fstat(fd).st_blocks * 512 > 16 << 20
        delivered(ring, words)
        give_back(ring)
        assert os.fstat(fd).st_blocks * 512 < DATA_KEPT + (1 << 20)
        put(ring, b"next")
        ring.commit_intake()
        assert contents(ring) == [b"next"]


@pytest.mark.parametrize("word", [1, KEEP])
@pytest.mark.parametrize("value", [1 << 30, (1 << 64) - 1])
def test_records_that_a_worker_has_damaged_are_copied_as_they_are(word: int, value: int) -> None:
    with opened() as fd, opened(2 * SLACK) as other:
        with closing(Ring(fd)) as ring, closing(Ring(other)) as larger:
            offset = ring.place(100)
            ring.write = offset + 100
            ring.put(1, offset, 100, 1, 1, 0, 0, 90, offset)
            ring.commit_intake()
            place = ring.tail % ring.records * RECORD.size + word * 8
            struct.pack_into("=Q", ring.table, place, value)
            for _ in copy(ring, larger):
                pass
        with closing(Ring(other)) as larger:
            assert larger.held() == Held(1, 1, 90)
