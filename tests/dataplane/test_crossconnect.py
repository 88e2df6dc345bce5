from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.crossconnect import ANSWERS
from epaird.dataplane.frames import HEADER
from epaird.dataplane.port import Port
from epaird.dataplane.segmenting import segment
from epaird.dataplane.sink import Sink
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    IBYTES,
    IMCASTS,
    IN_FLIGHT,
    IPACKETS,
    OBYTES,
    OMCASTS,
    OPACKETS,
    OVERSIZE,
    PEER_DOWN,
    REASONS,
    RUNT,
    TOO_BIG,
    WRITE_ERROR,
)
from tests.dataplane.conftest import Bench, frame, numbered
from tests.dataplane.datagrams import Datagram
from tests.dataplane.superframes import Offloaded

MULTICAST = b"\x33\x33\0\0\0\x01"


def exchange(port: Port) -> bool:
    return port.forwarding.exchange(port)


def test_a_burst_arrives_unchanged_and_in_order(make_bench: type[Bench]) -> None:
    bench = make_bench()
    sent = numbered(8)
    bench.owners[0].sends(*sent)
    assert bench.pipeline.transmit(bench.ports[0])
    assert bench.owners[1].receives() == sent
    bench.check_ledger()


def test_answers_that_wait_already_cross_too(make_bench: type[Bench]) -> None:
    bench = make_bench()
    sent, answers = numbered(3), numbered(2, size=60)
    bench.owners[0].sends(*sent)
    bench.owners[1].sends(*answers)
    assert exchange(bench.ports[0])
    assert bench.owners[1].receives() == sent
    assert bench.owners[0].receives() == answers
    bench.check_ledger()


def test_ports_that_answer_each_other_for_ever_end_their_turn(
    make_bench: type[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    transmit, reads = bench.pipeline.transmit, 0

    def answering(port: Port) -> bool:
        nonlocal reads
        reads += 1
        exhausted = transmit(port)
        bench.owners[bench.ports.index(bench.peer(port))].sends(frame())
        return exhausted

    monkeypatch.setattr(bench.pipeline, "transmit", answering)
    bench.owners[0].sends(frame())
    exchange(bench.ports[0])
    assert reads == 1 + ANSWERS


def test_a_peer_that_is_listed_or_missing_is_not_read_for_answers(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = bench.ports
    bench.queue.overflow(a)
    for owner in bench.owners:
        owner.sends(frame())
    exchange(b)
    assert len(bench.owners[0].receives()) == 1
    assert bench.owners[1].receives() == []

    Sink(bench.pipeline, (b,))
    bench.owners[1].sends(frame())
    exchange(b)
    assert bench.oerrors(b)["peer_down"] == 1


def reads_of(bench: Bench, source: Port, monkeypatch: pytest.MonkeyPatch) -> list[Port]:
    """Return the ports that are read in the turn of one of them."""
    transmit = bench.pipeline.transmit
    reads: list[Port] = []

    def recording(port: Port) -> bool:
        reads.append(port)
        return transmit(port)

    with monkeypatch.context() as patched:
        patched.setattr(bench.pipeline, "transmit", recording)
        exchange(source)
    return reads


def test_a_turn_ends_with_the_first_burst_that_asks_for_no_answer(
    make_bench: type[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    a, b = bench.ports
    assert reads_of(bench, a, monkeypatch) == [a], "there was nothing to answer"
    bench.owners[0].sends(frame())
    assert reads_of(bench, a, monkeypatch) == [a, b]
    bench.owners[0].sends(*numbered(65))
    assert reads_of(bench, a, monkeypatch) == [a], "its ring is not empty"
    assert reads_of(bench, a, monkeypatch) == [a, b]
    b.attached = False
    bench.owners[0].sends(frame())
    assert reads_of(bench, a, monkeypatch) == [a]
    b.attached = True
    bench.queue.overflow(b)
    bench.owners[0].sends(frame())
    assert reads_of(bench, a, monkeypatch) == [a]


def test_a_tagged_frame_may_be_longer_by_its_tag(make_bench: type[Bench]) -> None:
    bench = make_bench()
    head = frame()[:-2]
    fits, too_long = (head + b"\x81\0\0\7\x88\xb5" + bytes(1504 + more) for more in (0, 1))
    for number in (0, 1):
        bench.owners[number].sends(fits, too_long)
        bench.loop()
        assert bench.owners[1 - number].receives() == [fits]
        assert bench.oerrors(bench.ports[number])["oversize"] == 1


def test_frames_do_not_overtake_those_that_wait(
    make_bench: type[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device that had no room has some a moment later, while the next burst is delivered."""
    bench = make_bench()
    a, b = bench.ports
    first, *others = numbered(6)
    bench.queue.put(b, [first])
    with monkeypatch.context() as patched:
        patched.setattr(Port, "write", lambda *_: BlockingIOError())
        bench.owners[0].sends(*others[:2])
        bench.pipeline.transmit(a)
    assert list(b.backlog) == [first, *others[:2]]
    assert b in bench.polls.awaiting_room
    assert a.account.words[OPACKETS] == 2
    bench.owners[0].sends(*others[2:])
    bench.pipeline.transmit(a)
    assert bench.owners[1].receives() == [first, *others]
    assert not b.backlog, "what waited is delivered before the next burst"


def test_accepted_frames_among_refused_ones_each_arrive(make_bench: type[Bench]) -> None:
    bench = make_bench()
    good = numbered(5)
    bench.owners[0].sends(good[0], frame(bytes(2000)), *good[1:4], frame()[:-1], good[4])
    bench.pipeline.transmit(bench.ports[0])
    assert bench.owners[1].receives() == good
    bench.check_ledger()


@pytest.mark.parametrize("arrived", [0, 1, 3])
def test_what_a_full_device_does_not_take_waits_as_transmitted(
    make_bench: type[Bench], monkeypatch: pytest.MonkeyPatch, arrived: int
) -> None:
    bench = make_bench()
    a, b = bench.ports
    sent = numbered(5)
    refuse_after(monkeypatch, b, arrived)
    bench.owners[0].sends(*sent)
    bench.pipeline.transmit(a)
    monkeypatch.undo()
    assert bench.owners[1].receives() == sent[:arrived]
    assert list(b.backlog) == sent[arrived:]
    assert b in bench.polls.awaiting_room
    assert (a.account.words[OPACKETS], b.account.words[IPACKETS]) == (5, arrived)
    bench.check_ledger()


def refuse_after(monkeypatch: pytest.MonkeyPatch, port: Port, frames: int) -> None:
    """Have a device take so many frames and then none."""
    write, taken = os.write, 0

    def filling(fd: int, data: bytes) -> int:
        nonlocal taken
        if fd == port.fd:
            if taken == frames:
                raise BlockingIOError
            taken += 1
        return write(fd, data)

    monkeypatch.setattr(os, "write", filling)


@pytest.mark.parametrize("offload", [True, False])
def test_frames_are_in_flight_before_the_first_is_written(
    make_bench: type[Bench], monkeypatch: pytest.MonkeyPatch, offload: bool
) -> None:
    """Settlement relies on it when the worker is killed in between."""
    bench = make_bench()
    a, b = wired(bench)
    b.offload = offload
    write, in_flight = os.write, []

    def recording(fd: int, data: bytes) -> int:
        in_flight.append(b.account.words[IN_FLIGHT])
        return write(fd, data)

    monkeypatch.setattr(os, "write", recording)
    bench.owners[0].sends(SUPER)
    bench.pipeline.transmit(a)
    pieces = 1 if offload else len(segment(SUPER))
    assert in_flight == [pieces] * pieces
    assert b.account.words[IN_FLIGHT] == 0


def test_frames_are_counted_on_both_sides(make_bench: type[Bench]) -> None:
    bench = make_bench()
    frames = [frame(bytes(46)), frame(bytes(100), to=MULTICAST), frame(bytes(10), to=b"\xff" * 6)]
    bench.owners[1].sends(*frames)
    bench.loop()
    a, b = bench.ports
    octets = sum(len(each) - HEADER for each in frames)
    assert [b.account.words[i] for i in (OPACKETS, OBYTES, OMCASTS)] == [3, octets, 2]
    assert [a.account.words[i] for i in (IPACKETS, IBYTES, IMCASTS)] == [3, octets, 2]
    assert not a.account.words[OPACKETS]
    assert not b.account.words[IPACKETS]


def test_frames_too_long_or_too_short_are_errors_of_their_sender(make_bench: type[Bench]) -> None:
    bench = make_bench()
    fits, too_long, runt = frame(bytes(1504)), frame(bytes(1505)), frame()[:-1]
    bench.owners[0].sends(too_long, fits, runt)
    bench.loop()
    assert bench.owners[1].receives() == [fits]
    assert bench.oerrors(bench.ports[0]) == dict.fromkeys(REASONS, 0) | {"oversize": 1, "runt": 1}
    assert bench.ports[0].account.words[OPACKETS] == 1
    bench.check_ledger()


def test_the_fate_of_each_frame_is_known_by_its_slot(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = bench.ports
    bench.owners[0].sends(frame(bytes(2000)), frame(), frame()[:-1])
    bench.pipeline.transmit(a)
    assert bench.pipeline.burst.verdicts == {0: OVERSIZE, 2: RUNT}
    bench.owners[0].sends(frame(), frame())
    bench.pipeline.transmit(a)
    assert bench.pipeline.burst.verdicts == {}
    bench.owners[1].end.close()
    bench.owners[0].sends(frame(), frame())
    bench.pipeline.transmit(a)
    assert bench.pipeline.burst.verdicts == {0: WRITE_ERROR, 1: WRITE_ERROR}
    with Path("/proc/self/mem").open("r+b", buffering=0) as down:
        up, b.fd = b.fd, down.fileno()
        bench.owners[0].sends(frame()[:-1], frame())
        bench.pipeline.transmit(a)
        b.fd = up
    assert bench.pipeline.burst.verdicts == {0: RUNT, 1: PEER_DOWN}


def wired(bench: Bench) -> tuple[Port, Port]:
    """Return both ports; the owner of the second takes no offloads."""
    a, b = bench.ports
    b.offload = False
    a.burst_bytes = 0
    return a, b


SUPER = bytes(Offloaded(bytes(range(250)) * 14))
UNFINISHED = bytes(Offloaded(b"y" * 100, gso_size=0))


def test_an_owner_without_offloads_receives_frames_as_on_a_wire(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = wired(bench)
    sent = [frame(b"1"), SUPER, UNFINISHED, frame(b"2")]
    bench.owners[0].sends(*sent)
    bench.loop()
    received = bench.owners[1].receives()
    assert received == [frame(b"1"), *segment(SUPER), *segment(UNFINISHED), frame(b"2")]
    words, peer = a.account.words, b.account.words
    assert (words[OPACKETS], words[OBYTES]) == (4, sum(len(each) - HEADER for each in sent))
    assert (peer[IPACKETS], peer[IBYTES]) == (7, sum(len(each) - HEADER for each in received))
    assert peer[ADDED_SEGMENTS] == 3
    bench.check_ledger()
    bench.owners[1].sends(SUPER)
    bench.loop()
    assert bench.owners[0].receives() == [SUPER], "the other owner takes what it is sent"


def test_datagrams_for_an_owner_without_offloads_are_not_joined(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, _ = wired(bench)
    a.coalesce = True
    datagrams = [bytes(Datagram(bytes([number]) * 64, number=number)) for number in range(20)]
    bench.owners[0].sends(*datagrams)
    bench.loop()
    assert bench.owners[1].receives() == [each for sent in datagrams for each in segment(sent)]


def test_segments_that_find_no_room_wait_and_arrive_once(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = wired(bench)
    sent = [bytes(Offloaded(bytes([number]) * 60_000, gso_size=1400)) for number in range(20)]
    received: list[bytes] = []
    waited = 0
    for each in sent:
        bench.owners[0].sends(each)
        bench.loop()
        bench.check_ledger()
        waited = max(waited, len(b.backlog))
        while a.listed:
            received += bench.owners[1].receives()
            bench.loop()
    while b.backlog:
        received += bench.owners[1].receives()
        bench.loop()
    received += bench.owners[1].receives()
    assert waited > bench.queue.quota, "segments of a frame that was read are kept"
    assert waited < bench.queue.quota + len(segment(sent[0]))
    assert received == [piece for each in sent for piece in segment(each)]
    bench.check_ledger()


def test_a_super_frame_of_an_unknown_kind_is_lost_and_counted(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = wired(bench)
    strange = bytes(Offloaded(b"z" * 300, gso_type=3, gso_size=100))
    bench.owners[0].sends(strange, frame())
    bench.pipeline.transmit(a)
    assert bench.owners[1].receives() == [frame()]
    assert bench.ierrors(b)["write_error"] == 1
    assert bench.pipeline.burst.verdicts == {0: WRITE_ERROR}
    bench.check_ledger()


def test_a_super_frame_for_a_peer_that_is_down_is_one_error_of_its_sender(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = wired(bench)
    with Path("/proc/self/mem").open("r+b", buffering=0) as down:
        up, b.fd = b.fd, down.fileno()
        bench.owners[0].sends(SUPER)
        bench.pipeline.transmit(a)
        b.fd = up
    assert bench.oerrors(a)["peer_down"] == 1
    assert bench.pipeline.burst.verdicts == {0: PEER_DOWN}
    assert b.account.words[ADDED_SEGMENTS] == a.account.words[OPACKETS] == 0
    bench.check_ledger()


def test_segments_that_the_receiver_refuses_are_its_errors(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = wired(bench)
    bench.owners[1].end.close()  # ECONNREFUSED
    bench.owners[0].sends(SUPER)
    bench.pipeline.transmit(a)
    assert bench.ierrors(b)["write_error"] == len(segment(SUPER))
    bench.check_ledger()


def test_an_owner_that_wants_no_path_mtu_messages_gets_none(make_bench: type[Bench]) -> None:
    for wanted in (True, False):
        bench = make_bench()
        a, _ = bench.ports
        a.pmtu = wanted
        bench.owners[0].sends(bytes(Datagram(bytes(1600), flags=0)), frame(bytes(2000)))
        bench.loop()
        assert bench.oerrors(a)["oversize"] == 2
        assert a.account.words[TOO_BIG] == len(bench.owners[0].receives()) == wanted


def test_frames_for_a_peer_that_is_down_are_errors_of_their_sender(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = bench.ports
    # What a TAP that is down answers to write(), EIO, /proc/self/mem answers at address 0.
    with Path("/proc/self/mem").open("r+b", buffering=0) as down:
        up, b.fd = b.fd, down.fileno()
        bench.owners[0].sends(*numbered(3))
        bench.pipeline.transmit(a)
        b.fd = up
    assert bench.oerrors(a)["peer_down"] == 3
    assert a.account.words[OPACKETS] == 0
    bench.owners[0].sends(*numbered(2))
    bench.loop()
    assert len(bench.owners[1].receives()) == 2
    bench.check_ledger()


def test_a_frame_that_the_receiver_refuses_is_its_error(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.owners[0].sends(*numbered(3))
    bench.owners[1].end.close()  # ECONNREFUSED
    bench.loop()
    assert bench.ierrors(bench.ports[1])["write_error"] == 3
    assert bench.ports[0].account.words[OPACKETS] == 3
    bench.check_ledger()


@given(st.lists(st.tuples(st.sampled_from("abr"), st.integers(1, 9)), max_size=40), st.integers(1, 6))
def test_any_traffic_keeps_order_and_ledger(steps: list[tuple[str, int]], limit: int) -> None:
    """Both owners send and stop receiving at will; in the end all that was sent has arrived, in order."""
    bench = Bench(limit)
    try:
        sent: dict[int, list[bytes]] = {0: [], 1: []}
        received: dict[int, list[bytes]] = {0: [], 1: []}
        for action, many in steps:
            if action == "r":
                for owner in (0, 1):
                    received[owner] += bench.owners[owner].receives()
            else:
                owner = "ab".index(action)
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
