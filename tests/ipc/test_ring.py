"""The ring, as several processes see it one after the other."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.decisions import STATE_WORDS
from epaird.dataplane.impair.linequeue import QUEUE_WORDS
from epaird.dataplane.impair.release import RECORDS_AT_ONCE
from epaird.ipc.counters import (
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    HELD_FRAMES,
    IBYTES,
    IERRORS,
    IMCASTS,
    IPACKETS,
    ISEGMENTS,
    OSEGMENTS,
    PEER_DOWN,
    REORDERED,
    SLOT_WORDS,
    TOO_BIG,
    WRITE_ERROR,
)
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import (
    BIAS,
    COUNTERS,
    DATA,
    DELIVERED,
    FRAMES,
    HEAD,
    INTAKE,
    JOINED,
    LAST,
    LOG_ENTRIES,
    MULTICAST,
    OCTETS,
    PAGE,
    RELEASE,
    STATE,
    STATE_MAX,
    TABLE,
    TAIL,
    UNCOMMITTED_MAX,
    Held,
    Released,
    create,
    logged,
)
from epaird.ipc.ringsoundness import fault_of
from epaird.ipc.settlement import writes

PAGES = (STATE, INTAKE, INTAKE + 1, RELEASE, RELEASE + 1)


@contextmanager
def opened(fd: int) -> Iterator[Ring]:
    ring = Ring(fd)
    yield ring
    ring.close()


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create("epair0a", 1)
    yield fd
    os.close(fd)


def slot() -> memoryview:
    return memoryview(bytearray(SLOT_WORDS * 8)).cast("Q")


class Killed(Exception):
    pass


class Dying:
    """A slot whose writer is killed at its n-th store."""

    def __init__(self, words: memoryview, stores: int) -> None:
        self._words, self._stores = words, stores

    def __getitem__(self, word: int) -> int:
        return self._words[word]

    def __setitem__(self, word: int, value: int) -> None:
        if not self._stores:
            raise Killed
        self._stores -= 1
        self._words[word] = value


def put(ring: Ring, frames: int = 1, flags: int = 0) -> None:
    offset = ring.place(100)
    ring.write = offset + 100
    ring.put(1, offset, 100, frames, frames, flags, 0, 90 * frames, offset)


def test_what_is_not_committed_did_not_happen(fd: int) -> None:
    with opened(fd) as ring:
        put(ring)
        ring.decide((1, 2, 3))
        ring.note(7, 1)
        with opened(fd) as other:
            assert other.held() == Held()
            assert other.decided() == ()
            assert logged(other.fd) == []
        ring.commit_intake()
        put(ring)
    with opened(fd) as other:
        assert other.held() == Held(1, 1, 90)
        assert other.decided() == (1, 2, 3)
        assert logged(other.fd) == [(7, 1)]


def test_the_log_keeps_the_last_decisions(fd: int) -> None:
    with opened(fd) as ring:
        for number in range(LOG_ENTRIES + 10):
            ring.note(number, 1)
        ring.commit_intake()
        assert [segment for segment, _ in logged(ring.fd)] == list(range(10, LOG_ENTRIES + 10))


def test_a_successor_counts_what_the_kernel_has_and_the_ledger_has_not(fd: int) -> None:
    words = slot()
    words[TOO_BIG] = 5
    with opened(fd) as ring:
        ring.rest(words)
        for flags in (0, MULTICAST, JOINED):
            put(ring, 3 if flags == JOINED else 1, flags)
        put(ring)
        ring.commit_intake()
    # Three were written and none was counted.
    for _ in range(2):
        with opened(fd) as other:
            other.settle(8, words)
            assert other.held() == Held(1, 1, 90)
        assert words[IPACKETS] == 5
        assert words[IMCASTS] == 1
        assert words[IBYTES] == 450
        assert (words[COALESCED_SUPERFRAMES], words[COALESCED_DATAGRAMS]) == (1, 3)
        assert writes(words) == 8


@pytest.mark.parametrize("stores", range(6))
@pytest.mark.parametrize("refused", [False, True])
def test_a_writer_killed_between_two_stores_has_counted_everything_once(
    fd: int, stores: int, refused: bool
) -> None:
    words = slot()
    with opened(fd) as ring:
        ring.rest(words)
        for _ in range(3):
            put(ring, 2, JOINED | MULTICAST)
        ring.commit_intake()
        dying = Dying(words, stores)
        try:
            if refused:
                ring.refused(PEER_DOWN, dying)  # type: ignore[arg-type]
            else:
                gone = Released()
                for number in range(2):
                    gone.add(ring.record(number))
                ring.released(gone, dying)  # type: ignore[arg-type]
        except Killed:
            pass
    for _ in range(2):
        with opened(fd) as other:
            other.settle(0 if refused else 2, words)
            if refused:
                assert words[IERRORS + PEER_DOWN] == 2
                assert other.held() == Held(4, 4, 360)
            else:
                assert (words[IPACKETS], words[IBYTES], words[IMCASTS]) == (4, 360, 4)
                assert (words[COALESCED_SUPERFRAMES], words[COALESCED_DATAGRAMS]) == (2, 4)
                assert other.held() == Held(2, 2, 180)


def test_other_writes_to_the_receiver_release_nothing(fd: int) -> None:
    words = slot()
    with opened(fd) as ring:
        ring.rest(words)
        put(ring)
        ring.commit_intake()
        ring.begin()
    # The process was killed after it had written, and before it counted.
    with opened(fd) as other:
        assert other.settle(1, words).records == 0
        assert other.held().frames == 1
        words[IPACKETS] += 1
        other.rest(words)
    with opened(fd) as other:
        assert other.settle(2, words).records == 1
    assert words[IPACKETS] == 2


def test_what_is_discarded_is_counted(fd: int) -> None:
    words = slot()
    with opened(fd) as ring:
        put(ring)
        put(ring, 4, JOINED)
        ring.commit_intake()
        assert ring.discard(words) == Held(5, 5, 450)
        assert ring.held() == Held()
    assert words[IERRORS + WRITE_ERROR] == 5
    with opened(fd) as other:
        assert other.discard(words) == Held()
    assert words[IERRORS + WRITE_ERROR] == 5


def test_nothing_waits_behind_what_was_discarded(fd: int) -> None:
    words = slot()
    decided = tuple(range(100, 100 + STATE_WORDS))
    with opened(fd) as ring:
        put(ring)
        ring.decide(decided)
        ring.commit_intake()
        ring.discard(words)
    with opened(fd) as other:
        assert other.last == 0
        assert other.decided() == (*decided[:3], *(0,) * (1 + QUEUE_WORDS), *decided[4 + QUEUE_WORDS :])


def test_counters_are_mirrored(fd: int) -> None:
    words = slot()
    with opened(fd) as ring:
        ring.intake[COUNTERS + OSEGMENTS] = 9
        ring.intake[COUNTERS + REORDERED] = 2
        put(ring)
        ring.commit_intake()
        ring.mirror(words)
    assert (words[OSEGMENTS], words[REORDERED], words[ISEGMENTS], words[HELD_FRAMES]) == (9, 2, 2, 1)


@given(st.lists(st.tuples(st.integers(1, 6_000_000), st.integers(0, 4)), max_size=60))
def test_no_data_that_is_held_is_overwritten(steps: list[tuple[int, int]]) -> None:
    fd = create("epair0a", 1)
    words = slot()
    with opened(fd) as ring:
        live: deque[tuple[int, int]] = deque()
        for octets, released in steps:
            offset = ring.place(octets)
            if offset >= 0:
                assert offset + octets <= ring.size
                assert all(offset + octets <= start or end <= offset for start, end in live)
                ring.write = offset + octets
                ring.put(1, offset, octets, 1, 1, 0, 0, octets, offset)
                ring.commit_intake()
                live.append((offset, offset + octets))
            else:
                assert live
            gone = Released()
            for _ in range(min(released, len(live))):
                gone.add(ring.record(ring.tail + gone.records))
                live.popleft()
            ring.released(gone, words)
            assert ring.held().frames == len(live)
            assert not fault_of(ring)
    os.close(fd)


def test_a_short_delay_uses_little_of_it(fd: int) -> None:
    words = slot()
    with opened(fd) as ring:
        highest = 0
        put(ring)
        for _ in range(ring.records + 10):
            put(ring)
            highest = max(highest, ring.write)
            gone = Released()
            gone.add(ring.record(ring.tail))
            ring.commit_intake()
            ring.released(gone, words)
        assert highest < 1000


def test_a_state_that_contradicts_itself_is_refused(fd: int) -> None:
    with opened(fd) as ring:
        ring.head = ring.tail + ring.records + 1
        ring.commit_intake()
    with pytest.raises(ValueError, match="contradicts"):
        Ring(fd)


@pytest.mark.parametrize(
    ("page", "word", "value"),
    [
        (INTAKE, HEAD, STATE_MAX),
        (INTAKE, HEAD, 3),  # less than the tail
        (INTAKE, DATA, 1 << 40),  # beyond the data
        (INTAKE, LAST, STATE_MAX),  # a deadline that never comes
        (INTAKE, FRAMES, 2),  # less than were released
        (INTAKE, OCTETS, 1 << 20),  # bytes of no record
        (RELEASE, TAIL, 1 << 40),  # more than there were
        (RELEASE, DELIVERED, (1 << 64) - 1),
    ],
)
def test_a_state_that_no_line_leaves_is_refused(fd: int, page: int, word: int, value: int) -> None:
    words = slot()
    with opened(fd) as ring:
        for _ in range(7):
            put(ring)
        ring.commit_intake()
        ring.discard(words)
    for copy in (0, 1):
        os.pwrite(fd, struct.pack("=Q", value), (page + copy) * PAGE + word * 8)
    with pytest.raises(ValueError, match="contradicts"):
        Ring(fd)


NUMBERS = st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1, BIAS, (1 << 64) - 1]))
PLACES = st.tuples(st.sampled_from([*PAGES, TABLE]), st.integers(0, 80), NUMBERS)


@given(
    st.lists(PLACES, min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, SLOT_WORDS - 1), NUMBERS), max_size=4),
    st.integers(0, 1 << 40),
)
def test_whatever_a_worker_has_written_the_control_plane_goes_on(
    places: list[tuple[int, int, int]], counts: list[tuple[int, int]], written: int
) -> None:
    fd, words, line = create("epair0a", 1), slot(), slot()
    with opened(fd) as ring:
        ring.rest(words)
        for _ in range(600):
            put(ring)
        ring.commit_intake()
    for page, word, number in places:
        os.pwrite(fd, struct.pack("=Q", number), page * PAGE + 8 * word)
    for word, number in counts:
        words[word] = number
    for act in (
        lambda ring: ring.settle(written, words).records <= UNCOMMITTED_MAX,
        lambda ring: ring.mirror(line) is None,
        lambda _: len(logged(fd)) <= LOG_ENTRIES,
        lambda ring: ring.decide(ring.decided()) is None,
        lambda ring: ring.discard(words) is not None,
    ):
        try:
            ring = Ring(fd)
        except ValueError:
            break
        with closing(ring):
            assert act(ring)
    os.close(fd)


def test_numbers_beyond_a_word_do_not_end_a_worker(fd: int) -> None:
    with opened(fd) as ring:
        ring.decide((1, 1 << 64, -1))
        assert ring.decided() == (1, (1 << 64) - 1, 0)


def test_a_worker_commits_what_it_releases_before_it_is_more_than_a_successor_counts() -> None:
    assert RECORDS_AT_ONCE <= UNCOMMITTED_MAX


def test_a_suspended_ring_releases_nothing_whatever_the_kernel_counts(fd: int) -> None:
    words = slot()
    with opened(fd) as ring:
        ring.queue = 9
        put(ring)
        ring.commit_intake()
        assert ring.record(ring.tail)[-1] == 9
        ring.suspended = True
        ring.rest(words)
    with opened(fd) as other:
        other.settle(1, words)
        assert other.held() == Held(1, 1, 90)


def test_what_is_counted_after_an_account_was_settled_releases_nothing(fd: int) -> None:
    """A process may die before it has counted what was written and is no record."""
    words = slot()
    with opened(fd) as ring:
        ring.rest(words)
        put(ring)
        ring.commit_intake()
        ring.begin()
    for _ in range(2):
        with opened(fd) as other:
            other.settle(1, words)
            words[IPACKETS] = 1
            assert other.held() == Held(1, 1, 90)
