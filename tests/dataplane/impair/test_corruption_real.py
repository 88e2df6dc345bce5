"""Corrupted segments on real devices: the receiver's kernel counts each of them."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.corruption import corrupt
from epaird.dataplane.impair.pieces import pieces, shape
from tests.dataplane.impair.pump import ADDRESSES, MACS, Pump, checksum_errors, pumped, statistics
from tests.scenarios import transfers
from tests.sockets import force_receive_buffer
from tests.waiting import until

pytestmark = pytest.mark.real

IPV4 = IP(src=ADDRESSES[0][0], dst=ADDRESSES[1][0])
IPV6 = IPv6(src=ADDRESSES[0][1], dst=ADDRESSES[1][1])
DATA = Raw(b"0123456789")


@pytest.fixture
def pump() -> Iterator[Pump]:
    with pumped(f"eptcr{os.getpid()}") as made:
        yield made
        assert not made.failures


@pytest.mark.parametrize(
    ("packet", "counter"),
    [
        (IPV4 / TCP(dport=9, options=[("NOP", None)] * 4) / DATA, "TcpInCsumErrors"),
        (IPV6 / TCP(dport=9) / DATA, "TcpInCsumErrors"),
        (IPV4 / UDP(dport=9) / DATA, "UdpInCsumErrors"),
        (IPV6 / UDP(dport=9) / DATA, "Udp6InCsumErrors"),
        (IPV4 / UDP(dport=9), "UdpInCsumErrors"),
        (IPV4 / ICMP() / DATA, "IcmpInCsumErrors"),
        (IPV6 / ICMPv6EchoRequest(data=DATA.load), "Icmp6InCsumErrors"),
        (IP(src=IPV4.src, dst=IPV4.dst, options=[IPOption_NOP()] * 4) / UDP() / DATA, "UdpInCsumErrors"),
        (IPV6 / IPv6ExtHdrDestOpt() / TCP() / DATA, "TcpInCsumErrors"),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else "",
)
def test_each_bit_that_may_be_flipped_is_counted(pump: Pump, packet: Packet, counter: str) -> None:
    frame = bytes(HEADER) + bytes(Ether(src=MACS[0], dst=MACS[1]) / packet)
    view = memoryview(frame)
    made = {corrupt(view, shape(view, len(frame)), 0, bit) for bit in range(len(frame) * 8)}
    for each in made:
        pump.deliver(each)
    assert len(made) >= 32
    until(lambda: statistics(pump.ends[1])[counter] == len(made), lambda: statistics(pump.ends[1])[counter])


class Corrupting:
    """Corrupts one segment in a hundred of those with data."""

    def __init__(self) -> None:
        self._random = random.Random(8)
        self.corrupted = self.superframes = 0

    def __call__(self, frame: memoryview, length: int) -> Sequence[bytes | memoryview]:
        found = shape(frame, length)
        self.superframes += found.segments > 1
        hits = [number for number in range(found.segments) if self._random.random() < 0.01]
        if length <= 120 or not hits:
            return (frame[:length],)
        self.corrupted += len(hits)
        delivered = {number: corrupt(frame, found, number, self._random.getrandbits(64)) for number in hits}
        borders = [-1, *hits, found.segments]
        kept = [(last + 1, hit) for last, hit in pairwise(borders) if hit > last + 1]
        made: dict[int, bytes | memoryview] = {**delivered}
        for piece in pieces(frame, found, kept):
            made[piece.first] = piece.copy or frame[piece.offset : piece.offset + piece.length]
        return [made[first] for first in sorted(made)]


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_each_corrupted_segment_of_a_stream_is_counted_and_sent_again(pump: Pump, version: int) -> None:
    pump.change = corrupting = Corrupting()
    transfers.tcp(*pump.ends, ADDRESSES[1][version], 50_000_000)
    assert corrupting.superframes > 100
    assert corrupting.corrupted > 100
    after = statistics(pump.ends[1])
    assert after["TcpInCsumErrors"] == corrupting.corrupted
    assert [checksum_errors(end) for end in pump.ends] == [0, corrupting.corrupted]
    assert statistics(pump.ends[0])["TcpRetransSegs"] >= corrupting.corrupted


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_each_corrupted_datagram_is_counted(pump: Pump, version: int) -> None:
    pump.change = corrupting = Corrupting()
    family, address = (socket.AF_INET, socket.AF_INET6)[version], ADDRESSES[1][version]
    transfers.ping(pump.ends[0], address, count=1)
    sender, receiver = (each.socket(family, socket.SOCK_DGRAM) for each in pump.ends)
    force_receive_buffer(receiver, 1 << 26)
    receiver.bind((address, 0))
    sender.connect(receiver.getsockname()[:2])
    for number in range(3000):
        sender.send(number.to_bytes(4) * 250)
    sender.send(b"end")
    arrived = 0
    while (datagram := receiver.recv(2000)) != b"end":
        assert datagram == datagram[:4] * 250
        arrived += 1
    assert corrupting.corrupted == 3000 - arrived > 10
    counter = ("UdpInCsumErrors", "Udp6InCsumErrors")[version]
    assert statistics(pump.ends[1])[counter] == corrupting.corrupted
