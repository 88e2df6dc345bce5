from __future__ import annotations

import os

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from epaird.dataplane.port import Port
from epaird.dataplane.queue import Queue
from epaird.ipc.counters import DRAIN_LIST, IN_FLIGHT, LISTED, OACTIVE, QUEUE_FRAMES, WORKER_OACTIVE
from epaird.ipc.ledger import SLOT_BYTES, Words


def words() -> Words:
    return memoryview(bytearray(SLOT_BYTES)).cast("Q")


NOWHERE = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def port(name: str) -> Port:
    return Port(name, NOWHERE, words())


@pytest.fixture
def queue() -> Queue:
    return Queue(2, words())


def test_frames_hold_references(queue: Queue) -> None:
    a = port("epair0a")
    queue.put(a, [b"1", b"2"])
    assert (a.refs, queue.length, a.account.words[IN_FLIGHT]) == (3, 2, 2)
    queue.taken(a)
    assert (a.refs, queue.length, list(a.backlog)) == (2, 1, [b"2"])


def test_an_overflow_blocks_lists_once_and_holds_one_reference(queue: Queue) -> None:
    a = port("epair0a")
    queue.overflow(a)
    queue.overflow(a)
    assert queue.drain_list == (a,)
    assert (a.refs, a.oactive, queue.oactive) == (2, True, True)


def test_the_list_is_walked_in_order_with_the_flags_cleared(queue: Queue) -> None:
    a, b, c = (port(f"epair{n}a") for n in range(3))
    queue.put(c, [b"1", b"2"])
    for each in (b, a):
        queue.overflow(each)
    queue.taken(c, 2)
    assert queue.restart_due
    walked = []
    for each in queue.restarting():
        walked.append((each, each.oactive, queue.oactive))
        queue.unlist(each)
    assert walked == [(b, False, False), (a, False, False)]
    assert not queue.restart_due


def test_the_walk_ends_where_the_queue_fills_again_and_the_rest_keeps_its_place(queue: Queue) -> None:
    a, b, target = port("epair0a"), port("epair1a"), port("epair0b")
    for each in (a, b):
        queue.overflow(each)
    for each in queue.restarting():
        queue.put(target, [b"1", b"2"])
        queue.overflow(each)
    assert queue.drain_list == (a, b)
    assert (a.oactive, b.oactive, queue.oactive) == (True, True, True)


def test_a_flag_is_cleared_when_no_port_waits(queue: Queue) -> None:
    a = port("epair0a")
    queue.overflow(a)
    queue.unlist(a)
    assert not queue.oactive


class Traffic(RuleBasedStateMachine):
    """Any order of sending, delivering, restarting and leaving keeps the rules."""

    LIMIT = 4

    def __init__(self) -> None:
        super().__init__()
        self.words = words()
        self.queue = Queue(self.LIMIT, self.words)
        self.ports = [port(f"epair{n // 2}{'ab'[n % 2]}") for n in range(4)]
        self.listing: list[Port] = []

    @rule(number=st.integers(0, 3), burst=st.integers(1, 3))
    def send(self, number: int, burst: int) -> None:
        source, target = self.ports[number], self.ports[number ^ 1]
        if source.listed:
            return  # not polled
        room = self.queue.limit - self.queue.length
        if room == 0:
            self.queue.overflow(source)
            self.listing.append(source)
        else:
            self.queue.put(target, [b"frame"] * min(room, burst))

    @rule(number=st.integers(0, 3))
    def deliver(self, number: int) -> None:
        target = self.ports[number]
        if target.backlog:
            self.queue.taken(target)

    @precondition(lambda self: self.queue.restart_due)
    @rule(ring=st.lists(st.integers(0, 3), min_size=4, max_size=4))
    def restart(self, ring: list[int]) -> None:
        for source in self.queue.restarting():
            target = self.ports[self.ports.index(source) ^ 1]
            waiting = ring[self.ports.index(source)]
            room = self.queue.limit - self.queue.length
            if waiting:
                self.queue.put(target, [b"frame"] * min(room, waiting))
            if waiting <= room:
                self.queue.unlist(source)
                self.listing.remove(source)

    @rule(number=st.integers(0, 3))
    def leave(self, number: int) -> None:
        if self.ports[number].listed:
            self.listing.remove(self.ports[number])
        self.queue.unlist(self.ports[number])

    @invariant()
    def the_rules_are_kept(self) -> None:
        queue = self.queue
        assert queue.length == sum(len(each.backlog) for each in self.ports) <= queue.limit
        assert list(queue.drain_list) == self.listing
        for each in self.ports:
            assert each.refs == 1 + len(each.backlog) + (each in self.listing)
            assert each.listed == (each in self.listing)
            assert not each.oactive or each.listed, "blocked, and no restart will come"
            assert each.account.words[IN_FLIGHT] == len(each.backlog)
            assert (each.account.words[LISTED], each.account.words[OACTIVE]) == (each.listed, each.oactive)
        assert queue.oactive or not any(each.oactive for each in self.ports)
        assert not queue.oactive or queue.length or queue.drain_list, "a flag that no restart will clear"
        assert self.words[QUEUE_FRAMES] == queue.length
        assert self.words[DRAIN_LIST] == len(self.listing)
        assert self.words[WORKER_OACTIVE] == queue.oactive


TestTraffic = Traffic.TestCase
