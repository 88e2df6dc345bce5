from __future__ import annotations

import os
import random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from epaird.dataplane.burst import BURST_FRAMES
from epaird.dataplane.port import Port
from epaird.dataplane.queue import SHARES, Queue
from epaird.ipc.counters import (
    DRAIN_LIST,
    HELD_BYTES,
    IN_FLIGHT,
    LISTED,
    OACTIVE,
    QUEUE_FRAMES,
    WORKER_OACTIVE,
)
from epaird.ipc.ledger import SLOT_BYTES, Words


def words() -> Words:
    return memoryview(bytearray(SLOT_BYTES)).cast("Q")


NOWHERE = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def port(name: str) -> Port:
    return Port(name, NOWHERE, words())


def pair(number: int = 0) -> tuple[Port, Port]:
    """Return two ports, each the other's receiver."""
    a, b = port(f"epair{number}a"), port(f"epair{number}b")
    a.receiver, b.receiver = b, a
    return a, b


@pytest.fixture
def queue() -> Queue:
    return Queue(2, words())


def test_frames_hold_references(queue: Queue) -> None:
    a = port("epair0a")
    queue.put(a, [b"1", b"2"])
    assert (a.refs, queue.length, a.account.words[IN_FLIGHT]) == (3, 2, 2)
    queue.taken(a)
    assert (a.refs, queue.length, list(a.backlog)) == (2, 1, [b"2"])


def test_a_new_queue_is_empty_whatever_the_worker_before_it_held() -> None:
    used = memoryview(bytearray(b"\1" * SLOT_BYTES)).cast("Q")
    Queue(2, used)
    assert [used[each] for each in (QUEUE_FRAMES, DRAIN_LIST, WORKER_OACTIVE)] == [0, 0, 0]


def test_senders_are_flushed_while_at_most_two_quotas_wait_for_their_receiver() -> None:
    queue = Queue(2100, words())
    receiver, _ = pair()
    assert queue.may_flush(receiver)
    queue.put(receiver, [b""] * 2 * queue.quota)
    assert queue.may_flush(receiver)
    queue.put(receiver, [b""])
    assert not queue.may_flush(receiver)


def test_an_overflow_blocks_lists_once_and_holds_one_reference(queue: Queue) -> None:
    a, _ = pair()
    queue.overflow(a)
    queue.overflow(a)
    assert queue.drain_list == (a,)
    assert (a.refs, a.oactive, queue.oactive) == (2, True, True)


@pytest.mark.parametrize("limit", [1, BURST_FRAMES - 1, BURST_FRAMES, 2100, 1_000_000])
def test_a_quota_is_a_share_and_at_least_a_burst_of_the_limit(limit: int) -> None:
    quota = Queue(limit, words()).quota
    assert quota >= min(limit, BURST_FRAMES)
    assert quota == limit // SHARES or quota <= BURST_FRAMES


def test_a_receiver_that_takes_nothing_leaves_room_for_the_others() -> None:
    queue = Queue(2100, words())
    (_, stuck), (_, slow) = pair(0), pair(1)
    queue.put(stuck, [b""] * queue.quota)
    assert queue.room(stuck) == 0
    assert queue.room(slow) == queue.quota
    queue.put(slow, [b""])
    assert queue.room(slow) == queue.quota - 1


def test_a_full_queue_leaves_a_burst_to_a_receiver_for_which_nothing_waits() -> None:
    queue = Queue(2100, words())
    stuck = [pair(number)[1] for number in range(3 * SHARES)]
    for each in stuck:
        while (room := queue.room(each)) > 0:
            queue.put(each, [b""] * min(room, BURST_FRAMES))
    assert queue.length >= queue.limit
    assert queue.length <= queue.limit + BURST_FRAMES * len(stuck)
    assert queue.room(pair(99)[1]) >= BURST_FRAMES


def test_a_lists_walk_is_in_order_with_the_flags_cleared(queue: Queue) -> None:
    receiver, a, b = (port(f"epair{n}") for n in range(3))
    a.receiver = b.receiver = receiver
    queue.put(receiver, [b"1", b"2"])
    for each in (b, a):
        queue.overflow(each)
    assert not queue.restart_due
    queue.taken(receiver, 2)
    assert queue.restart_due
    walked = []
    for each in queue.restarting():
        walked.append((each, each.oactive))
        queue.unlist(each)
    assert walked == [(b, False), (a, False)]
    assert not queue.restart_due
    assert not queue.oactive


def test_a_receiver_that_drains_restarts_its_own_senders_only(queue: Queue) -> None:
    (a, b), (c, d) = pair(0), pair(1)
    for source, receiver in ((a, b), (c, d)):
        queue.put(receiver, [b"1", b"2"])
        queue.overflow(source)
    queue.taken(d, 2)
    assert list(queue.restarting()) == [c]
    assert (a.oactive, c.oactive, queue.oactive) == (True, False, True)


def test_a_walk_ends_where_frames_wait_again_and_the_rest_keeps_its_place(queue: Queue) -> None:
    receiver, a, b = (port(f"epair{n}") for n in range(3))
    a.receiver = b.receiver = receiver
    queue.put(receiver, [b"1"])
    for each in (a, b):
        queue.overflow(each)
    queue.taken(receiver)
    for each in queue.restarting():
        queue.put(receiver, [b"1", b"2"])
        queue.overflow(each)
    assert queue.drain_list == (a, b)
    assert (a.oactive, b.oactive, queue.oactive) == (True, True, True)
    assert not queue.restart_due


def test_a_flag_is_cleared_when_no_port_waits(queue: Queue) -> None:
    a, _ = pair()
    queue.overflow(a)
    queue.unlist(a)
    assert not queue.oactive


class Traffic(RuleBasedStateMachine):
    """Any order of sending, delivering, restarting and leaving keeps the rules."""

    LIMIT = 5
    QUOTA = 3
    ADDED = 2
    """Most segments that a burst adds."""

    def __init__(self) -> None:
        super().__init__()
        self.words = words()
        self.queue = Queue(self.LIMIT, self.words)
        self.queue.quota = self.QUOTA
        self.ports = [*pair(0), *pair(1), *pair(2), port("lo1")]
        self.lists: dict[Port, list[Port]] = {each: [] for each in self.ports}
        """The drain list of each receiver."""

    @property
    def listed(self) -> set[Port]:
        return {each for ports in self.lists.values() for each in ports}

    def transmit(self, source: Port, ring: int, added: int = 0) -> bool:
        """Do what Pipeline.transmit() does to a receiver that takes nothing; True when the ring is empty.

        The frames of the burst are ``added`` more once they are segmented."""
        room = self.queue.room(source.receiver)
        assert room > 0 or source.receiver.backlog, "a receiver that took everything is blocked"
        if room <= 0:
            self.queue.overflow(source)
            if source not in self.listed:
                self.lists[source.receiver].append(source)
            return False
        if ring:
            frames = [bytes(random.randrange(1, 1500)) for _ in range(min(room, ring) + added)]
            self.queue.put(source.receiver, frames)
        return ring <= room

    @rule(number=st.integers(0, 6), burst=st.integers(1, 4), added=st.integers(0, ADDED))
    def send(self, number: int, burst: int, added: int) -> None:
        if not self.ports[number].listed:  # else it is not polled
            self.transmit(self.ports[number], burst, added)

    @rule(number=st.integers(0, 6), frames=st.integers(1, 3))
    def deliver(self, number: int, frames: int) -> None:
        target = self.ports[number]
        if target.backlog:
            self.queue.taken(target, min(frames, len(target.backlog)))

    @precondition(lambda self: self.queue.restart_due)
    @rule(rings=st.lists(st.integers(0, 4), min_size=7, max_size=7))
    def restart(self, rings: list[int]) -> None:
        for source in self.queue.restarting():
            assert not source.receiver.backlog
            if self.transmit(source, rings[self.ports.index(source)]):
                self.queue.unlist(source)
                self.lists[source.receiver].remove(source)

    @rule(number=st.integers(0, 6))
    def leave(self, number: int) -> None:
        source = self.ports[number]
        if source.listed:
            self.lists[source.receiver].remove(source)
        self.queue.unlist(source)

    @rule(limit=st.integers(1, 8))
    def tune(self, limit: int) -> None:
        self.queue.limit = limit
        self.queue.quota = min(limit, self.QUOTA)

    @invariant()
    def no_more_frames_wait_than_may(self) -> None:
        waiting = [len(each.backlog) for each in self.ports]
        assert self.queue.length == sum(waiting) == self.words[QUEUE_FRAMES]
        assert max(waiting) <= self.QUOTA + self.ADDED
        assert self.queue.length <= 8 + (self.QUOTA + self.ADDED) * len(self.ports)

    @invariant()
    def who_is_blocked_is_listed_once_and_restarted(self) -> None:
        queue = self.queue
        assert sorted(map(id, queue.drain_list)) == sorted(map(id, self.listed))
        for receiver, ports in self.lists.items():
            assert list(queue.listed(receiver)) == ports
            assert not ports or receiver.backlog or queue.restart_due, "listed, and no restart will come"
        for each in self.ports:
            assert each.refs == 1 + len(each.backlog) + (each in self.listed)
            assert each.listed == (each in self.listed)
            assert not each.oactive or each.listed, "blocked, and no restart will come"
            assert each.account.words[IN_FLIGHT] == len(each.backlog)
            assert each.account.words[HELD_BYTES] == sum(map(len, each.backlog))
            assert (each.account.words[LISTED], each.account.words[OACTIVE]) == (each.listed, each.oactive)
        assert queue.oactive == any(each.oactive for each in self.ports) == self.words[WORKER_OACTIVE]
        assert queue.restart_due == any(
            not receiver.backlog for receiver, ports in self.lists.items() if ports
        )
        assert self.words[DRAIN_LIST] == len(self.listed)


TestTraffic = Traffic.TestCase
