"""The steps that every kind of forwarding has in common, by the example of a cross-connect."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from epaird.dataplane.frames import HEADER
from epaird.ipc.counters import DOWN, FLUSHED, OPACKETS, RUNT, TOO_BIG
from tests.dataplane.conftest import Bench, frame, numbered
from tests.dataplane.datagrams import Datagram
from tests.dataplane.superframes import Offloaded


def test_a_receiver_that_takes_nothing_fills_the_queue_and_blocks_its_sender(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=5)
    a, _ = bench.ports
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


def test_a_turn_that_reads_nothing_is_not_the_last(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=1)
    a, b = bench.ports
    bench.queue.put(b, [frame()])
    bench.owners[0].sends(frame())
    assert not bench.pipeline.transmit(a)
    assert a.account.words[OPACKETS] == 0
    assert bench.queue.drain_list == (a,)


def test_the_stall_of_the_original(make_bench: type[Bench]) -> None:
    """Fill the queue, stop sending, let the receiver take all, send again: everything arrives in order.

    The original set OACTIVE without listing, and hung here for ever."""
    bench = make_bench(limit=5)
    a, b = bench.owners
    sent: list[bytes] = []
    while not bench.ports[0].listed:
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
    bench.pipeline.transmit(bench.ports[0])
    assert bench.queue.drain_list == (bench.ports[0],)
    b.receives()
    bench.loop()
    assert not bench.queue.drain_list
    assert bench.ports[0] in bench.polls.reading


def test_receivers_that_take_nothing_hold_up_neither_others_nor_their_own_direction(
    make_bench: type[Bench],
) -> None:
    """With as many of them as fill the queue several times."""
    bench = make_bench(limit=4, cables=4)
    stuck = bench.owners[0:6:2]
    while not all(bench.ports[number].listed for number in (0, 2, 4)):
        for each, port in zip(stuck, bench.ports[0:6:2], strict=True):
            if not port.listed:
                each.sends(frame())
        bench.loop()
    assert bench.queue.length >= bench.queue.limit
    sent = numbered(300)
    received = []
    for one in sent:
        bench.owners[6].sends(one)
        bench.loop()
        received += bench.owners[7].receives()
    assert received == sent
    for number in (1, 3, 5):
        bench.owners[number].sends(frame(b"back"))
        bench.loop()
        assert bench.owners[number - 1].receives() == [frame(b"back")]
    bench.check_ledger()


def test_frames_that_waited_for_a_peer_that_went_down_are_its_errors(make_bench: type[Bench]) -> None:
    bench = make_bench()
    _, b = bench.ports
    while not b.backlog:
        bench.owners[0].sends(frame())
        bench.loop()
    with Path("/proc/self/mem").open("r+b", buffering=0) as down:
        up, b.fd = b.fd, down.fileno()
        bench.pipeline.resume(b)
        b.fd = up
    assert bench.ierrors(b)["peer_down"] == 1
    assert b.refs == 1
    bench.check_ledger()


def set_down(bench: Bench, number: int, *, recorded: bool = True) -> None:
    """Have a device be as one that is down: poll() does not report it as writable."""
    device = bench.owners[number].device
    with suppress(BlockingIOError):
        while True:
            device.send(frame(b"fills the buffer"))
    bench.ports[number].account.words[DOWN] = recorded


def test_a_port_that_is_down_loses_what_it_has_sent_before(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.owners[0].sends(*numbered(5), frame()[:-1], frame(bytes(2000)))
    set_down(bench, 0)
    bench.loop()
    errors = bench.oerrors(bench.ports[0])
    assert (errors["flushed"], errors["runt"], errors["oversize"]) == (5, 1, 1)
    assert bench.owners[1].receives() == []
    assert bench.ports[0].account.words[OPACKETS] == 0
    assert bench.pipeline.burst.lengths == [], "its ring was read to the end"


def test_the_fate_of_flushed_frames_is_known_by_their_slots(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.owners[0].sends(frame(), frame()[:-1], frame())
    set_down(bench, 0)
    assert bench.pipeline.transmit(bench.ports[0])
    assert bench.pipeline.burst.verdicts == {0: FLUSHED, 1: RUNT, 2: FLUSHED}


def test_a_ring_of_several_bursts_is_flushed_to_its_end(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=5)
    a, b = bench.ports
    while not a.listed:
        bench.owners[0].sends(*numbered(3))
        bench.loop()
    a.at_once = 2
    bench.owners[0].sends(*numbered(9))
    set_down(bench, 0)
    bench.pipeline.flush(b)
    assert bench.oerrors(a)["flushed"] >= 9
    assert not a.listed


def test_datagrams_of_a_burst_are_joined(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.ports[0].coalesce = True
    bench.owners[0].sends(*(bytes(Datagram(number=number)) for number in range(20)))
    bench.pipeline.transmit(bench.ports[0])
    assert len(bench.owners[1].receives()) == 1


def test_a_restart_that_leaves_frames_in_a_ring_is_followed_by_another(make_bench: type[Bench]) -> None:
    """The walk is not repeated at once: other cables have their turn."""
    bench = make_bench()
    a, b = bench.ports
    a.at_once = 2
    bench.queue.put(b, [frame()])
    bench.queue.overflow(a)
    bench.queue.taken(b)
    bench.owners[0].sends(*numbered(3))
    bench.pipeline.restart()
    assert len(bench.owners[1].receives()) == 2
    assert (a.listed, bench.polls.restart_requested) == (True, True)
    bench.polls.restart_requested = False
    bench.pipeline.restart()
    assert len(bench.owners[1].receives()) == 1
    assert (a.listed, bench.polls.restart_requested) == (False, False)


@pytest.mark.parametrize("what", ["up again", "not recorded"])
def test_a_port_that_may_be_up_loses_nothing(make_bench: type[Bench], what: str) -> None:
    bench = make_bench()
    bench.owners[0].sends(*(sent := numbered(5)))
    set_down(bench, 0, recorded=what == "up again")
    if what == "up again":
        bench.owners[0].receives()
    bench.loop()
    assert bench.owners[1].receives() == sent


def test_a_blocked_port_that_goes_down_is_flushed_and_leaves_the_list(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=5)
    a, b = bench.ports
    while not a.listed:
        bench.owners[0].sends(*numbered(3))
        bench.loop()
    bench.owners[0].sends(*numbered(9))
    bench.pipeline.flush(b)
    assert a.listed, "it is up"
    set_down(bench, 0)
    bench.pipeline.flush(b)
    assert (a.listed, a.oactive, a.refs) == (False, False, 1)
    assert a in bench.polls.reading
    assert bench.oerrors(a)["flushed"] >= 9
    assert len(b.backlog) == 5
    bench.check_ledger()


def test_senders_to_a_receiver_above_its_quota_are_flushed(make_bench: type[Bench]) -> None:
    """Segments that are kept above the quota do not keep the ring of a port that is down."""
    bench = make_bench()
    a, b = bench.ports
    b.offload, a.burst_bytes = False, 0
    superframe = bytes(Offloaded(bytes(60_000), gso_size=1400))
    while not a.listed:
        bench.owners[0].sends(superframe)
        bench.loop()
    assert len(b.backlog) > bench.queue.quota
    set_down(bench, 0)
    bench.pipeline.flush(b)
    assert not a.listed
    assert bench.oerrors(a)["flushed"] == 1


def test_a_port_that_comes_up_while_it_is_flushed_loses_nothing_more(make_bench: type[Bench]) -> None:
    """Nothing that was sent while it was up is dropped, and no more than a burst is kept beyond the quota."""
    bench = make_bench(limit=5)
    a, b = bench.ports
    while not a.listed:
        bench.owners[0].sends(*numbered(3))
        bench.loop()
    set_down(bench, 0)
    read = a.read

    def up_at_once(buffer: memoryview) -> int | None:
        bench.owners[0].receives()
        return read(buffer)

    a.read = up_at_once
    bench.owners[0].sends(*numbered(9))
    waiting = len(b.backlog)
    bench.pipeline.flush(b)
    assert bench.oerrors(a)["flushed"] == 0
    assert len(b.backlog) >= waiting + 9
    set_down(bench, 0)
    bench.owners[0].sends(*numbered(9))
    bench.pipeline.flush(b)
    assert bench.oerrors(a)["flushed"] == 0, "no room for a second burst"


def test_a_device_that_vanished_is_reported(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.owners[0].device.close()
    bench.pipeline.transmit(bench.ports[0])
    assert bench.polls.vanished == [bench.ports[0]]


def test_a_listed_device_that_vanished_is_not_restarted_for_ever(
    make_bench: type[Bench],
) -> None:
    bench = make_bench(limit=1)
    a, b = bench.owners
    while not bench.ports[0].listed:
        a.sends(frame())
        bench.loop()
    a.device.close()
    b.receives()
    for each in list(bench.polls.awaiting_room):
        bench.pipeline.resume(each)
    bench.polls.restart_requested = False
    bench.pipeline.restart()
    assert bench.polls.vanished == [bench.ports[0]]
    assert not bench.queue.drain_list
    assert not bench.polls.restart_requested


def test_frames_that_are_discarded_are_errors_of_the_receiver(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=3)
    a, b = bench.ports
    while not a.listed:
        bench.owners[0].sends(frame())
        bench.loop()
    bench.pipeline.discard(b)
    assert bench.ierrors(b)["write_error"] == 3
    assert bench.polls.restart_requested
    bench.check_ledger()


def test_a_burst_is_bounded(make_bench: type[Bench]) -> None:
    bench = make_bench(limit=2)
    bench.owners[0].sends(*numbered(5))
    assert not bench.pipeline.transmit(bench.ports[0])
    assert bench.ports[0].account.words[OPACKETS] == 2


def test_the_sender_of_a_frame_that_is_too_long_gets_the_limit(make_bench: type[Bench]) -> None:
    bench = make_bench()
    packet = bytes(
        Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
        / IP(src="10.0.0.1", dst="10.0.0.2", flags="DF")
        / Raw(bytes(2000))
    )
    bench.owners[0].sends(bytes(HEADER) + packet)
    bench.pipeline.transmit(bench.ports[0])
    (message,) = bench.owners[0].receives()
    assert Ether(message[HEADER:])[ICMP].nexthopmtu == 1500
    assert bench.oerrors(bench.ports[0])["oversize"] == 1
    assert bench.ports[0].account.words[TOO_BIG] == 1
