"""Lines on real devices, in a worker process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from epaird.ipc.counters import (
    CORRUPTED,
    DOWN,
    DUPLICATED,
    FLUSHED,
    FULL,
    HELD_FRAMES,
    IMPAIRED,
    IPACKETS,
    LATE_BUCKETS,
    LATE_BUCKETS_MAX,
    LINE_REASONS,
    MARKED,
    OACTIVE,
    OERRORS,
    OPACKETS,
    PEER_DOWN,
    REORDERED,
    TOO_BIG,
)
from epaird.ipc.impairment import LineParameters, LossChain, Phase
from epaird.ipc.messages import Drained
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import logged
from tests.dataplane.datagrams import Datagram
from tests.dataplane.impair.cable import Cable, errors, impaired, later
from tests.dataplane.impair.loop import on_wire
from tests.dataplane.superframes import Offloaded
from tests.waiting import until

MS = 1_000_000
HOUR_NS = 3600 * 10**9
LOSS = LossChain(p=0.05, r=0.95)


@pytest.fixture
def cable() -> Iterator[Cable]:
    with impaired("eptline") as cable:
        yield cable


def held(cable: Cable) -> int:
    return int(cable.words(3)[HELD_FRAMES])


def memory(cable: Cable) -> int:
    """Return the bytes of memory that the ring takes."""
    return os.fstat(cable.rings[0]).st_blocks * 512


def holds(cable: Cable, count: int) -> None:
    until(lambda: held(cable) >= count, lambda: held(cable))


def test_frames_are_delivered_in_order_after_the_delay(cable: Cable) -> None:
    cable.start(cable.spec(delay_ns=50 * MS))
    cable.a.numbered(0, 3000)
    holds(cable, 1)
    assert cable.b.waits_for(3000) == list(range(3000))
    cable.check()
    assert sum(cable.words(3)[LATE_BUCKETS : LATE_BUCKETS + LATE_BUCKETS_MAX]) == 3000


def test_changes_in_place_lose_and_reorder_nothing(cable: Cable) -> None:
    """Delay added, raised, lowered and removed, each while frames are held."""
    cable.start()
    sent = 0
    spec = cable.spec(delay_ns=300 * MS)
    for change in (spec, later(spec, delay_ns=600 * MS), later(spec, delay_ns=MS), None):
        cable.a.numbered(sent, 500)
        sent += 500
        cable.impair(0, change)
        if change is not spec:
            assert held(cable)
        cable.a.numbered(sent, 500)
        sent += 500
        until(lambda: cable.words(1)[OPACKETS] == sent)  # noqa: B023
    assert cable.b.waits_for(sent) == list(range(sent))
    assert cable.event() == Drained("epair0", 0)
    cable.a.numbered(sent, 10)
    assert cable.b.waits_for(sent + 10) == list(range(sent + 10))
    cable.check()


def test_a_full_ring_stops_reading_and_drops_nothing(cable: Cable) -> None:
    cable.start(cable.spec(delay_ns=200 * MS, buffer=20_000))
    cable.a.numbered(0, 3000, 200)
    until(lambda: cable.words(1)[OACTIVE])
    until(lambda: cable.words(3)[FULL])
    assert held(cable) < 1000
    assert cable.b.waits_for(3000) == list(range(3000))
    until(lambda: not cable.words(1)[OACTIVE])
    assert not cable.words(3)[FULL]
    cable.check()


def test_a_ring_that_holds_nothing_gives_its_memory_back(cable: Cable) -> None:
    cable.start(cable.spec(delay_ns=1500 * MS))
    cable.a.numbered(0, 12_000, 1400)
    holds(cable, 8_000)
    assert memory(cable) > 8 << 20
    assert cable.b.waits_for(12_000) == list(range(12_000))
    until(lambda: memory(cable) < 5 << 20, lambda: memory(cable))
    cable.a.numbered(12_000, 100)
    assert cable.b.waits_for(12_100) == list(range(12_100))
    cable.check()


def test_a_killed_worker_loses_doubles_and_reorders_nothing(cable: Cable) -> None:
    lines = cable.spec(delay_ns=150 * MS), cable.spec(1, delay_ns=MS)
    cable.start(*lines)
    for number in range(6):
        cable.a.numbered(number * 2000, 2000)
        cable.b.numbered(number, 1)
        if number % 2:
            holds(cable, 1)
        cable.kill()
        assert cable.settle() <= 64
        cable.start(*lines)
    lost = sum(errors(cable, 2).values())
    numbers = cable.b.waits_for(12_000 - lost)
    assert numbers == sorted(set(numbers))
    cable.check()


def test_a_successor_makes_the_decisions_that_follow(cable: Cable) -> None:
    spec = cable.spec(delay_ns=100 * MS, loss=LOSS, duplicate=0.03)
    cable.start(spec)
    for part in range(2):
        cable.a.numbered(part * 2000, 2000)
        until(lambda: cable.words(1)[OPACKETS] == (part + 1) * 2000)  # noqa: B023
        cable.kill()
        assert cable.settle() == 0
        cable.start(spec)
    until(lambda: held(cable) == 0)
    cable.check()
    ring = Ring(cable.rings[0])
    interrupted = logged(ring.fd)
    ring.close()
    assert interrupted
    numbers = cable.b.numbers()
    assert numbers == sorted(numbers)
    with impaired("eptlinf") as other:
        other.start(spec)
        other.a.numbered(0, 4000)
        until(lambda: other.words(1)[OPACKETS] == 4000 and not held(other))
        ring = Ring(other.rings[0])
        assert logged(ring.fd) == interrupted
        ring.close()
        assert other.b.waits_for(len(numbers)) == numbers


def test_held_frames_wait_for_the_next_cable_of_the_same_halves(cable: Cable) -> None:
    spec = cable.spec(delay_ns=300 * MS)
    cable.start(spec)
    cable.a.numbered(0, 1000)
    until(lambda: cable.words(1)[OPACKETS] == 1000)
    cable.detach()
    before = cable.words(2)[IPACKETS]
    assert before < 1000
    cable.attach(spec)
    assert cable.b.waits_for(1000) == list(range(1000))
    cable.check()


def test_a_receiver_that_is_down_refuses_what_is_due(cable: Cable) -> None:
    cable.start(cable.spec(delay_ns=20 * MS))
    cable.b.ip("link set eth0 down")
    cable.a.numbered(0, 100)
    until(lambda: errors(cable, 2) == {PEER_DOWN: 100}, lambda: errors(cable, 2))
    cable.b.ip("link set eth0 up")
    cable.a.numbered(100, 100)
    assert cable.b.waits_for(100) == list(range(100, 200))
    cable.check()
    cable.kill()
    assert cable.settle() == 0


def test_what_a_sender_that_was_set_down_left_is_flushed(cable: Cable) -> None:
    cable.start(cable.spec(delay_ns=20 * MS, buffer=1000))
    cable.a.numbered(0, 1000)
    cable.words(1)[DOWN] = 1
    cable.a.ip("link set eth0 down")
    until(lambda: cable.words(1)[OPACKETS] + cable.words(1)[OERRORS + FLUSHED] == 1000)
    delivered = cable.words(1)[OPACKETS]
    assert cable.b.waits_for(delivered) == list(range(delivered))
    cable.check()


def test_answers_about_long_frames_do_not_disturb_what_is_held(cable: Cable) -> None:
    """They are written to the receiver of the line in the other direction."""
    cable.mtus = [1500, 600]
    lines = cable.spec(delay_ns=200 * MS), cable.spec(1, delay_ns=200 * MS)
    cable.start(*lines)
    cable.b.numbered(0, 300)
    until(lambda: cable.words(2)[OPACKETS] == 300)
    packet = bytes.fromhex("450003e8000040004011000001020304050607080000000000000000").ljust(1000, b"x")
    long = bytes(10) + b"\x02\0\0\0\0\x0b\x02\0\0\0\0\x0a\x08\0" + packet
    for _ in range(3):
        before = cable.words(1)[TOO_BIG]
        cable.a.send(long)
        until(lambda: cable.words(1)[TOO_BIG] > before)  # noqa: B023
    cable.kill()
    assert cable.settle() == 0
    cable.start(*lines)
    assert cable.a.waits_for(300) == list(range(300))
    cable.check()


def test_every_fate_is_counted_once(cable: Cable) -> None:
    cable.start(
        cable.spec(delay_ns=30 * MS, loss=LOSS, duplicate=0.05, corrupt=0.05, reorder=0.05, ber=5e-5),
    )
    cable.a.numbered(0, 4000)
    until(lambda: cable.words(1)[OPACKETS] == 4000 and held(cable) == 0)
    line = cable.words(3)
    for word in (IMPAIRED, IMPAIRED + 3, DUPLICATED, CORRUPTED, REORDERED):
        assert 50 < line[word] < 500
    cable.check()


def test_a_rate_delays_and_its_limit_drops(cable: Cable) -> None:
    cable.start(cable.spec(rate=10_000_000, limit_segments=50))
    cable.a.numbered(0, 500, 900)
    until(lambda: cable.words(1)[OPACKETS] == 500 and held(cable) == 0)
    assert cable.words(3)[IMPAIRED + 1] > 100
    cable.check()


def reason(name: str) -> int:
    """Return the word that counts what is dropped for a reason."""
    return IMPAIRED + LINE_REASONS.index(name)


def test_losses_of_the_schedule_have_a_reason_of_their_own(cable: Cable) -> None:
    """The phase begins later: half of what it hits is lost, super-frames included, and then nothing."""
    lossy = LineParameters(delay_ns=10 * MS, loss=LossChain(p=0.5, r=0.5))
    spec = replace(cable.spec(delay_ns=10 * MS), phases=(Phase(HOUR_NS, 0, 0, lossy),))
    cable.start(spec)
    cable.a.numbered(0, 1000)
    until(lambda: cable.words(1)[OPACKETS] == 1000)
    assert not cable.words(3)[reason("schedule")]
    cable.impair(0, replace(spec, applied_ns=spec.applied_ns - HOUR_NS))
    cable.a.numbered(1000, 1000)
    cable.a.send(*(bytes(Offloaded(bytes(20_000), gso_size=1000)) for _ in range(20)))
    until(lambda: cable.words(1)[OPACKETS] == 2020)
    dropped = cable.words(3)[reason("schedule")]
    assert 590 < dropped < 810, "700 of 1400 segments"
    cable.impair(0, later(spec, delay_ns=5 * MS))
    cable.a.numbered(2000, 100)
    until(lambda: held(cable) == 0 and cable.words(1)[OPACKETS] == 2120)
    assert cable.words(3)[reason("schedule")] == dropped, "it began again with the change"
    assert not cable.words(3)[reason("loss")]
    cable.check()


def with_tos(sent: Offloaded, tos: int) -> bytes:
    """Return a frame of IPv4 with another type of service; a packet socket ignores its checksum."""
    frame = bytearray(bytes(sent))
    frame[25] = tos
    return bytes(frame)


@pytest.mark.parametrize(("tos", "ecn"), [(2, True), (0, True), (2, False)])
def test_a_long_queue_marks_what_can_be_marked_and_drops_the_rest(cable: Cable, tos: int, ecn: bool) -> None:
    """Datagrams and a super-frame, in a queue of more than a second."""
    cable.start(cable.spec(rate=2_000_000, codel=True, ecn=ecn))
    sent = [bytes(Datagram(bytes(1000), number=number, tos=tos)) for number in range(250)]
    cable.a.send(*sent[:200], with_tos(Offloaded(bytes(40_000), gso_size=1000), tos), *sent[200:])
    until(lambda: cable.words(1)[OPACKETS] == 251 and held(cable) == 0)
    line = cable.words(3)
    marked, dropped = line[MARKED], line[reason("aqm")]
    assert bool(marked) == (tos == 2 and ecn)
    assert bool(dropped) != bool(marked)
    assert 5 < marked + dropped < 100
    until(lambda: len(on_wire(cable.b.collect())) == 290 - dropped)
    packets = [each for each in on_wire(cable.b.collect()) if each[22:24] == b"\x08\0"]
    assert sum(each[25] & 3 == 3 for each in packets) == marked
    cable.check()
