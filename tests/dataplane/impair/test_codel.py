"""CoDel: what it decides on arrival is what RFC 8289 decides at the head of the queue."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import pytest

from epaird.dataplane.impair.codel import CODEL_WORDS, INTERVAL_NS, TARGET_NS, Advice, CoDel, target_of
from epaird.dataplane.impair.shaper import MTU_OCTETS, Shaper

MS: Final = 1_000_000
SECOND: Final = 1_000 * MS
NOW: Final = 50 * SECOND
EXACT: Final = [93, 176, 234, 282, 324, 361]


@dataclass
class HeadOfQueue:
    """CoDel as RFC 8289 describes it: at the head of a queue of packets that wait, with a link that takes the
    next packet whenever it is free."""

    rate: int
    ecn: bool = False
    hold_one: bool = False
    """Whether a queue of at most one full packet is left alone, as in the RFC."""
    fates: dict[int, Advice] = field(default_factory=dict)
    queue: deque[tuple[int, int, int]] = field(default_factory=deque)
    first_above: int = 0
    dropping: bool = False
    drop_next: int = 0
    count: int = 0
    last_count: int = 0

    def run(self, packets: list[tuple[int, int]]) -> list[Advice]:
        """Return the fates of packets (arrival, bytes)."""
        coming = deque((moment, octets, index) for index, (moment, octets) in enumerate(packets))
        link = Shaper(self.rate)
        while coming or self.queue:
            now = link.start(self.queue[0][0] if self.queue else coming[0][0])
            while coming and coming[0][0] <= now:
                self.queue.append(coming.popleft())
            packet = self.dequeue(now)
            if packet is not None:
                link.leave(now, packet[1])
                self.fates.setdefault(packet[2], Advice.PASS)
        return [self.fates[index] for index in range(len(packets))]

    def head(self, now: int) -> tuple[tuple[int, int, int] | None, bool]:
        if not self.queue:
            self.first_above = 0
            return None, False
        packet = self.queue.popleft()
        few = self.hold_one and sum(octets for _, octets, _ in self.queue) <= MTU_OCTETS
        if now - packet[0] < target_of(self.rate) or few:
            self.first_above = 0
            return packet, False
        if self.first_above == 0:
            self.first_above = now + INTERVAL_NS
            return packet, False
        return packet, now >= self.first_above

    def law(self, moment: int) -> int:
        return moment + int(INTERVAL_NS / math.sqrt(self.count))

    def refuse(self, packet: tuple[int, int, int]) -> None:
        self.fates[packet[2]] = Advice.MARK if self.ecn else Advice.DROP

    def dequeue(self, now: int) -> tuple[int, int, int] | None:
        packet, may_drop = self.head(now)
        if self.dropping:
            if not may_drop:
                self.dropping = False
            while packet is not None and self.dropping and now >= self.drop_next:
                self.refuse(packet)
                self.count += 1
                if self.ecn:
                    self.drop_next = self.law(self.drop_next)
                    break
                packet, may_drop = self.head(now)
                if may_drop:
                    self.drop_next = self.law(self.drop_next)
                else:
                    self.dropping = False
        elif packet is not None and may_drop:
            self.refuse(packet)
            if not self.ecn:
                packet, _ = self.head(now)
            self.dropping = True
            grown = self.count - self.last_count
            recent = now - self.drop_next < 16 * INTERVAL_NS
            self.count = grown if grown > 1 and recent else 1
            self.drop_next = self.law(now)
            self.last_count = self.count
        return packet


def traffic(seed: int, rate: int, load: float, seconds: int = 8) -> list[tuple[int, int]]:
    """Packets (arrival, bytes) whose load swings between none and twice ``load``, with pauses."""
    chance = random.Random(seed)
    packets, now = [], NOW
    while now < NOW + seconds * SECOND:
        octets = chance.choice([84, 600, MTU_OCTETS, MTU_OCTETS, MTU_OCTETS])
        swing = 1 + math.sin(now / SECOND * 3)
        now += int(chance.expovariate(1) * octets * 8 * SECOND / rate / (load * swing + 0.01))
        if chance.random() < 0.0005:
            now += chance.randrange(2 * SECOND)
        packets.append((now, octets))
    return packets


def on_arrival(
    rate: int, packets: list[tuple[int, int]], *, ecn: bool = False, renew: int = 0
) -> list[Advice]:
    """Return what is decided on arrival. Every ``renew`` packets another object goes on."""
    codel, link, found = CoDel(target_of(rate)), Shaper(rate), []
    for index, (now, octets) in enumerate(packets):
        if renew and index % renew == 0:
            codel = CoDel(target_of(rate), codel.words())
        start = link.start(now)
        advice = codel.decide(start, start - now, link.backlog(now), markable=ecn)
        if advice is not Advice.DROP:
            link.leave(now, octets)
        found.append(advice)
    return found


@pytest.mark.parametrize("ecn", [False, True])
@pytest.mark.parametrize("load", [0.6, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("rate", [5_000_000, 20_000_000])
@pytest.mark.parametrize("seed", [1, 2])
def test_each_packet_has_the_fate_that_it_has_at_the_head(
    rate: int, load: float, ecn: bool, seed: int
) -> None:
    packets = traffic(seed, rate, load)
    found = on_arrival(rate, packets, ecn=ecn, renew=7)
    assert found == HeadOfQueue(rate, ecn).run(packets)
    assert found.count(Advice.MARK if ecn else Advice.DROP) > 10
    assert Advice.DROP not in found or not ecn


@pytest.mark.parametrize("load", [1.0, 1.5, 4.0])
def test_what_arrives_later_makes_little_difference(load: float) -> None:
    packets = traffic(3, 10_000_000, load)
    found = on_arrival(10_000_000, packets).count(Advice.DROP)
    head = HeadOfQueue(10_000_000, hold_one=True).run(packets).count(Advice.DROP)
    assert abs(found - head) <= 0.02 * head + 2


def test_a_short_queue_is_left_alone() -> None:
    packets = [(NOW + index * 2 * MS, MTU_OCTETS) for index in range(5000)]
    assert set(on_arrival(10_000_000, packets)) == {Advice.PASS}


def test_a_standing_queue_loses_more_and_more() -> None:
    # 1.6 times the rate: the first drop comes once the sojourn was above its target for an interval.
    packets = [(NOW + index * 769_000, MTU_OCTETS) for index in range(3000)]
    found = on_arrival(10_000_000, packets)
    drops = [index for index, advice in enumerate(found) if advice is Advice.DROP]
    gaps = [second - first for first, second in pairwise(drops)]
    assert drops[:6] == EXACT
    assert sum(gaps[:5]) > sum(gaps[5:10]) > sum(gaps[20:25])


def test_the_target_is_at_least_the_time_of_one_packet() -> None:
    assert target_of(10_000_000) == TARGET_NS
    assert target_of(1_000_000) == MTU_OCTETS * 8_000
    # At 100 kbit/s a packet takes 123 ms. One that waits for another is no standing queue.
    packets = [(NOW + index // 2 * 300 * MS, MTU_OCTETS) for index in range(200)]
    assert set(on_arrival(100_000, packets)) == {Advice.PASS}


def test_the_state_begins_with_nothing() -> None:
    codel = CoDel(TARGET_NS)
    assert codel.words() == (0,) * CODEL_WORDS
    assert codel.idle
    codel.decide(NOW, TARGET_NS, 10 * MTU_OCTETS, markable=False)
    assert not codel.idle
