from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.forward import ANSWERS
from epaird.dataplane.frames import HEADER
from epaird.dataplane.interface import Interface, nobody
from epaird.ipc.counters import IBYTES, IMCASTS, IPACKETS, OBYTES, OMCASTS, OPACKETS
from tests.dataplane.conftest import Bench, frame

MULTICAST = b"\x33\x33\0\0\0\x01"


def numbered(count: int, size: int = 50) -> list[bytes]:
    return [frame(number.to_bytes(4, "big") + bytes(size)) for number in range(count)]


def test_a_burst_arrives_unchanged_and_in_order(make_bench: type[Bench]) -> None:
    bench = make_bench()
    sent = numbered(8)
    bench.owners[0].sends(*sent)
    assert bench.forwarder.transmit(bench.interfaces[0])
    assert bench.owners[1].receives() == sent
    bench.check_ledger()


def test_answers_that_are_there_already_cross_too(make_bench: type[Bench]) -> None:
    bench = make_bench()
    sent, answers = numbered(3), numbered(2, size=60)
    bench.owners[0].sends(*sent)
    bench.owners[1].sends(*answers)
    assert bench.forwarder.exchange(bench.interfaces[0])
    assert bench.owners[1].receives() == sent
    assert bench.owners[0].receives() == answers
    bench.check_ledger()


def test_two_that_answer_each_other_for_ever_leave_the_loop_its_turn(
    make_bench: type[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    transmit, reads = bench.forwarder.transmit, 0

    def answering(interface: Interface) -> bool:
        nonlocal reads
        reads += 1
        exhausted = transmit(interface)
        bench.owners[bench.interfaces.index(interface.peer)].sends(frame())
        return exhausted

    monkeypatch.setattr(bench.forwarder, "transmit", answering)
    bench.owners[0].sends(frame())
    bench.forwarder.exchange(bench.interfaces[0])
    assert reads == 1 + ANSWERS


def test_who_is_on_the_drain_list_or_nowhere_is_not_asked_for_answers(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = bench.interfaces
    bench.queue.overflow(a)
    for owner in bench.owners:
        owner.sends(frame())
    bench.forwarder.exchange(b)
    assert len(bench.owners[0].receives()) == 1
    assert bench.owners[1].receives() == []

    b.peer = nobody()
    bench.owners[1].sends(frame())
    bench.forwarder.exchange(b)
    assert bench.oerrors(b)["peer_down"] == 1


def test_what_is_counted_on_both_sides(make_bench: type[Bench]) -> None:
    bench = make_bench()
    frames = [frame(bytes(46)), frame(bytes(100), to=MULTICAST), frame(bytes(10), to=b"\xff" * 6)]
    bench.owners[1].sends(*frames)
    bench.loop()
    a, b = bench.interfaces
    octets = sum(len(each) - HEADER for each in frames)
    assert [b.words[i] for i in (OPACKETS, OBYTES, OMCASTS)] == [3, octets, 2]
    assert [a.words[i] for i in (IPACKETS, IBYTES, IMCASTS)] == [3, octets, 2]
    assert not a.words[OPACKETS]
    assert not b.words[IPACKETS]


def test_too_long_and_too_short_frames_cost_their_sender(make_bench: type[Bench]) -> None:
    bench = make_bench()
    fits, too_long, runt = frame(bytes(1504)), frame(bytes(1505)), frame()[:-1]
    bench.owners[0].sends(too_long, fits, runt)
    bench.loop()
    assert bench.owners[1].receives() == [fits]
    assert bench.oerrors(bench.interfaces[0]) == {
        "peer_down": 0, "oversize": 1, "runt": 1, "write_error": 0, "worker_lost": 0, "family": 0,
    }  # fmt: skip
    assert bench.interfaces[0].words[OPACKETS] == 1
    bench.check_ledger()


def test_a_receiver_that_takes_nothing_fills_the_queue_and_blocks_its_sender(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=5)
    a, _ = bench.interfaces
    sent: list[bytes] = []
    while not a.listed:
        sent += (burst := numbered(3))
        bench.owners[0].sends(*burst)
        bench.loop()
    assert bench.queue.length == 5
    assert bench.queue.drain_list == (a,)
    assert a.oactive
    assert a not in bench.polls.reading
    bench.check_ledger()


def test_the_stall(make_bench: type[Bench]) -> None:
    """Fill the queue, stop sending, let the receiver take all, send again: everything arrives in order.

    The original set OACTIVE without listing, and hung here for ever."""
    bench = make_bench(limit=5)
    a, b = bench.owners
    sent: list[bytes] = []
    while not bench.interfaces[0].listed:
        sent += (burst := numbered(3))
        a.sends(*burst)
        bench.loop()
    received = []
    while arrived := b.receives():
        received += arrived
        bench.loop()
    assert received == sent
    assert not bench.queue.oactive
    assert not bench.queue.drain_list
    a.sends(again := frame(b"again"))
    bench.loop()
    assert b.receives() == [again]
    bench.check_ledger()


def test_an_overflow_with_an_empty_ring_is_listed_too(make_bench: type[Bench]) -> None:
    """The other half of the stall: the loop calls for a sender whose ring is empty by then."""
    bench = make_bench(limit=1)
    a, b = bench.owners
    while not bench.queue.length:
        a.sends(frame())
        bench.loop()
    bench.forwarder.transmit(bench.interfaces[0])
    assert bench.queue.drain_list == (bench.interfaces[0],)
    b.receives()
    bench.loop()
    assert not bench.queue.drain_list
    assert bench.interfaces[0] in bench.polls.reading


def test_a_blocked_cable_holds_the_others_only_while_the_queue_is_full(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=4, cables=2)
    a0, b0, a1, b1 = bench.owners
    while bench.queue.length < 4:
        a0.sends(frame())
        bench.loop()
    a1.sends(frame(b"other"))
    bench.loop()
    assert bench.queue.drain_list[-1] is bench.interfaces[2]
    assert b1.receives() == []
    b0.receives()
    bench.loop()
    assert b1.receives() == [frame(b"other")]
    bench.check_ledger()


def test_a_peer_that_is_down_costs_its_sender(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = bench.interfaces
    # What a TAP that is down answers to write(), EIO, /proc/self/mem answers at address 0.
    with Path("/proc/self/mem").open("r+b", buffering=0) as down:
        up, b.fd = b.fd, down.fileno()
        bench.owners[0].sends(*numbered(3))
        bench.forwarder.transmit(a)
        b.fd = up
    assert bench.oerrors(a)["peer_down"] == 3
    assert a.words[OPACKETS] == 0
    bench.owners[0].sends(*numbered(2))
    bench.loop()
    assert len(bench.owners[1].receives()) == 2
    bench.check_ledger()


def test_frames_that_waited_for_a_peer_that_went_down_are_its_errors(make_bench: type[Bench]) -> None:
    bench = make_bench()
    _, b = bench.interfaces
    while not b.backlog:
        bench.owners[0].sends(frame())
        bench.loop()
    with Path("/proc/self/mem").open("r+b", buffering=0) as down:
        up, b.fd = b.fd, down.fileno()
        bench.forwarder.resume(b)
        b.fd = up
    assert bench.ierrors(b)["peer_down"] == 1
    assert b.refs == 1
    bench.check_ledger()


def test_a_frame_the_receiver_refuses_is_the_receivers_error(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.owners[0].sends(*numbered(3))
    bench.owners[1].end.close()  # ECONNREFUSED
    bench.loop()
    assert bench.ierrors(bench.interfaces[1])["write_error"] == 3
    assert bench.interfaces[0].words[OPACKETS] == 3
    bench.check_ledger()


def test_a_device_that_vanished_is_told(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.owners[0].device.close()
    bench.forwarder.transmit(bench.interfaces[0])
    assert bench.polls.vanished == [bench.interfaces[0]]


def test_a_listed_device_that_vanished_is_not_restarted_for_ever(
    make_bench: type[Bench],
) -> None:
    bench = make_bench(limit=1)
    a, b = bench.owners
    while not bench.interfaces[0].listed:
        a.sends(frame())
        bench.loop()
    a.device.close()
    b.receives()
    for each in list(bench.polls.awaiting_room):
        bench.forwarder.resume(each)
    bench.polls.restart_asked = False
    bench.forwarder.restart()
    assert bench.polls.vanished == [bench.interfaces[0]]
    assert not bench.queue.drain_list
    assert not bench.polls.restart_asked


def test_what_is_discarded_is_the_receivers_error(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=3)
    a, b = bench.interfaces
    while not a.listed:
        bench.owners[0].sends(frame())
        bench.loop()
    bench.forwarder.discard(b)
    assert bench.ierrors(b)["write_error"] == 3
    assert bench.polls.restart_asked
    bench.check_ledger()


def test_a_burst_is_bounded(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=2)
    bench.owners[0].sends(*numbered(5))
    assert not bench.forwarder.transmit(bench.interfaces[0])
    assert bench.interfaces[0].words[OPACKETS] == 2


@given(st.lists(st.tuples(st.sampled_from("abr"), st.integers(1, 9)), max_size=40), st.integers(1, 6))
def test_any_traffic_keeps_order_and_ledger(steps: list[tuple[str, int]], limit: int) -> None:
    """Both owners send and stop receiving at will; in the end all that was sent has arrived, in order."""
    bench = Bench(limit)
    try:
        sent: dict[int, list[bytes]] = {0: [], 1: []}
        received: dict[int, list[bytes]] = {0: [], 1: []}
        for who, many in steps:
            if who == "r":
                for owner in (0, 1):
                    received[owner] += bench.owners[owner].receives()
            else:
                owner = "ab".index(who)
                for number in range(many):
                    each = frame(b"%d %d" % (len(sent[owner]), number))
                    try:
                        bench.owners[owner].sends(each)
                    except BlockingIOError:
                        break  # its ring is full: not sent
                    sent[owner].append(each)
            bench.loop()
            bench.check_ledger()
        while any(arrived := [bench.owners[owner].receives() for owner in (0, 1)]):
            for owner in (0, 1):
                received[owner] += arrived[owner]
            bench.loop()
        assert (received[1], received[0]) == (sent[0], sent[1])
        assert not bench.queue.drain_list
        assert not bench.queue.oactive
    finally:
        bench.close()
