"""A loopback without a kernel: packets that its owner transmits are delivered to its owner."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Packet, Raw

from epaird.dataplane.frames import HEADER
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.dataplane.queue import Queue
from epaird.dataplane.reflector import Reflector
from epaird.ipc.counters import (
    FAMILY,
    HELD_BYTES,
    IBYTES,
    IERRORS,
    IMCASTS,
    IN_FLIGHT,
    IPACKETS,
    OBYTES,
    OERRORS,
    OMCASTS,
    OPACKETS,
    OVERSIZE,
    RUNT,
    WRITE_ERROR,
)
from epaird.ipc.ledger import Table
from tests.dataplane.conftest import Owner, Polls

V4 = IP(src="10.88.7.1", dst="10.88.7.9")
V6 = IPv6(src="fd88::1", dst="fd88::9")


class Bench:
    """A loopback, driven by hand."""

    def __init__(self, *, swap: bool = True, limit: int = 2100, mtu: int = 33624) -> None:
        self.table = Table.create(2)
        self.polls = Polls()
        self.queue = Queue(limit, self.table.slot(0))
        self.pipeline = Pipeline(self.queue, self.polls)
        self.owner = Owner()
        self.port = Port("lo1", self.owner.device.fileno(), self.table.slot(1))
        self.forwarding = Reflector(self.pipeline, (self.port,), swap=swap)
        self.port.limit = self.forwarding.link.read_limit((mtu,))
        self.port.at_once = 64
        self.words = self.port.account.words

    def sent(self, *packets: Packet | bytes) -> list[bytes]:
        """Return the packets that come back when the owner sends these."""
        for packet in packets:
            self.owner.sends(bytes(HEADER) + bytes(packet))
        self.forwarding.exchange(self.port)
        return [each[HEADER:] for each in self.owner.receives()]

    def close(self) -> None:
        self.owner.close()
        os.close(self.table.fd)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.mark.parametrize("packet", [V4 / UDP() / b"xyz", V6 / TCP() / b"y", V4 / TCP() / (b"z" * 30_000)])
def test_swapped_packets_come_from_where_they_were_sent_to_with_right_checksums(
    bench: Bench, packet: Packet
) -> None:
    (back,) = bench.sent(packet)
    kind = type(packet)
    original, reflected = kind(bytes(packet)), kind(back)
    assert (reflected.src, reflected.dst) == (original.dst, original.src)
    again = kind(back)
    transport = UDP if UDP in again else TCP
    checksum = again[transport].chksum
    del again[transport].chksum
    assert kind(bytes(again))[transport].chksum == checksum
    assert len(back) == len(bytes(packet))


@given(st.binary(min_size=40, max_size=200), st.sampled_from([0x45, 0x46, 0x4F, 0x60]))
def test_only_the_addresses_change_and_twice_is_not_at_all(rest: bytes, first: int) -> None:
    packet = bytes([first]) + rest
    bench = Bench()
    try:
        (once,) = bench.sent(packet)
        (twice,) = bench.sent(once)
    finally:
        bench.close()
    start, length = (12, 4) if first >> 4 == 4 else (8, 16)
    ends = start, start + length, start + 2 * length
    group = packet[ends[1]] & 0xF0 == 0xE0 if first >> 4 == 4 else packet[ends[1]] == 0xFF
    swapped = packet[: ends[0]] + packet[ends[1] : ends[2]] + packet[ends[0] : ends[1]] + packet[ends[2] :]
    assert once == (packet if group else swapped)
    back_group = once[ends[1]] & 0xF0 == 0xE0 if first >> 4 == 4 else once[ends[1]] == 0xFF
    assert twice == (once if back_group else packet)


@pytest.mark.parametrize(
    "packet",
    [
        V4 / ICMP(type=3, code=3) / IP(src="10.88.7.9", dst="10.88.7.1") / UDP(sport=5, dport=6),
        V6 / ICMPv6DestUnreach(code=4) / IPv6(src="fd88::9", dst="fd88::1") / UDP(sport=5, dport=6),
    ],
    ids=["IPv4", "IPv6"],
)
def test_the_quote_of_an_error_is_swapped_too(bench: Bench, packet: Packet) -> None:
    """The owner reports the packet of 10.88.7.9, which is its own packet to it, reflected."""
    (back,) = bench.sent(packet)
    found = type(packet)(back)
    quoted = found.payload.payload
    assert (found.src, found.dst) == (packet.dst, packet.src)
    assert (quoted.src, quoted.dst) == (packet.src, packet.dst)
    assert (quoted.sport, quoted.dport) == (5, 6)


def test_a_header_alone_is_swapped(bench: Bench) -> None:
    for packet in (V4, V6):
        (back,) = bench.sent(packet)
        assert (type(packet)(back).src, type(packet)(back).dst) == (packet.dst, packet.src)


@pytest.mark.parametrize("version", [each for each in range(16) if each not in (4, 6)])
def test_packets_behind_one_that_is_not_ip_are_swapped(bench: Bench, version: int) -> None:
    (back,) = bench.sent(bytes((version << 4,)) * 60, V4 / UDP())
    assert IP(back).src == V4.dst
    assert bench.words[IERRORS + FAMILY] == 1
    assert bench.polls.unknown == [(bench.port, version)]


def test_a_loopback_has_no_peer_to_poll_for(bench: Bench) -> None:
    bench.owner.sends(bytes(HEADER) + bytes(V4))
    assert not bench.forwarding.exchange(bench.port)
    assert not bench.forwarding.exchange(bench.port)


def test_packets_that_wait_are_delivered_before_the_next_burst(bench: Bench) -> None:
    waiting, following = bytes(V4 / b"1"), bytes(IP(src=V4.dst, dst=V4.src) / b"2")
    bench.queue.put(bench.port, [bytes(HEADER) + waiting])
    assert bench.sent(V4 / b"2") == [waiting, following]
    assert not bench.port.backlog


def test_packets_are_in_flight_while_they_are_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settlement relies on it when the worker is killed in between."""
    write, in_flight = os.write, []

    def recording(fd: int, data: bytes) -> int:
        in_flight.append(bench.words[IN_FLIGHT])
        return write(fd, data)

    monkeypatch.setattr(os, "write", recording)
    bench.sent(V4, V6, V4)
    assert in_flight == [3, 3, 3]
    assert bench.words[IN_FLIGHT] == 0


def test_a_packet_that_the_device_refuses_is_an_error_of_its_receiver(bench: Bench) -> None:
    bench.owner.sends(bytes(HEADER) + bytes(V4), bytes(HEADER) + bytes(V6))
    bench.owner.end.close()  # ECONNREFUSED
    bench.pipeline.transmit(bench.port)
    assert (bench.words[OPACKETS], bench.words[IPACKETS]) == (2, 0)
    assert bench.words[IERRORS + WRITE_ERROR] == 2
    assert bench.pipeline.burst.verdicts == {0: WRITE_ERROR, 1: WRITE_ERROR}


def test_verbatim_changes_nothing() -> None:
    bench = Bench(swap=False)
    packet = bytes(V4 / UDP() / b"x")
    assert bench.sent(packet) == [packet]
    bench.close()


def test_counters_are_netbsds(bench: Bench) -> None:
    good, group, foreign = bytes(V4 / b"abc"), bytes(IP(dst="224.0.0.1") / b"d"), b"\x75" + bytes(30)
    assert len(bench.sent(good, group, foreign)) == 2
    octets = len(good) + len(group)
    assert [bench.words[each] for each in (OPACKETS, OBYTES, OMCASTS)] == [3, octets + len(foreign), 1]
    assert [bench.words[each] for each in (IPACKETS, IBYTES, IMCASTS)] == [2, octets, 1]
    assert bench.words[IERRORS + FAMILY] == 1
    assert bench.polls.unknown == [(bench.port, 7)]
    assert bench.pipeline.burst.verdicts == {2: FAMILY}
    bench.sent(foreign)
    assert len(bench.polls.unknown) == 1, "only the first is reported"
    assert bench.words[IN_FLIGHT] == 0
    assert bench.port.refs == 1


def test_too_long_and_too_short(bench: Bench) -> None:
    bench.port.limit = bench.forwarding.link.read_limit((100,))
    fits, long = bytes(V4 / Raw(bytes(80))), bytes(V4 / Raw(bytes(81)))
    short4, short6 = bytes(V4)[:19], bytes(V6)[:39]
    assert len(bench.sent(fits, long, short4, short6)) == 1
    assert bench.words[OERRORS + OVERSIZE] == 1
    assert bench.words[IERRORS + RUNT] == 2
    assert bench.words[OPACKETS] == bench.words[IPACKETS] + 2 == 3


def test_packets_that_the_device_does_not_take_wait_in_order(bench: Bench) -> None:
    bench.queue.limit = 8
    packets = [bytes(V4 / Raw(number.to_bytes(2) * 10_000)) for number in range(400)]
    received: list[bytes] = []
    waited = False
    for packet in packets:
        try:
            bench.owner.sends(bytes(HEADER) + packet)
        except BlockingIOError:
            received += bench.owner.receives()
            bench.owner.sends(bytes(HEADER) + packet)
        bench.pipeline.transmit(bench.port)
        held = sum(map(len, bench.port.backlog))
        assert bench.words[HELD_BYTES] == held
        assert bench.port.refs == 1 + len(bench.port.backlog) + bench.port.listed
        waited = waited or held > 0
        if bench.port.backlog:
            received += bench.owner.receives()
            bench.pipeline.resume(bench.port)
    received += bench.owner.receives()
    assert waited or len(received) == len(packets)
    assert [each[-2:] for each in received] == [packet[-2:] for packet in packets]
    assert bench.words[HELD_BYTES] == 0


def test_a_full_queue_lists_the_interface_and_reads_nothing(bench: Bench) -> None:
    bench.queue.put(bench.port, [bytes(HEADER) + bytes(V4)] * bench.queue.quota)
    bench.owner.sends(bytes(HEADER) + bytes(V4))
    assert not bench.pipeline.transmit(bench.port)
    assert bench.port.listed
    assert bench.words[OPACKETS] == 0
    while bench.queue.length:
        bench.owner.receives()
        bench.pipeline.resume(bench.port)
    assert bench.polls.restart_requested


def test_a_device_that_is_gone_is_reported(bench: Bench) -> None:
    bench.owner.close()
    bench.pipeline.transmit(bench.port)
    assert bench.polls.vanished == [bench.port]
