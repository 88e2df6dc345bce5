"""TCP and UDP over a cable that loses single segments of super-frames."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Sequence

import pytest

from epaird.dataplane.impair.pieces import extract, pieces, shape
from tests.dataplane.impair.pump import ADDRESSES, Pump, checksum_errors, pumped, statistics
from tests.scenarios import transfers
from tests.sockets import force_receive_buffer

pytestmark = pytest.mark.real

UDP_SEGMENT = 103
SHORT = 120
"""Bytes of the longest frame without data."""


@pytest.fixture
def pump() -> Iterator[Pump]:
    with pumped(f"eptpm{os.getpid()}") as made:
        yield made
        assert not made.failures


class Losing:
    """Loses one segment in a hundred, and doubles as many if asked to; none that is short, as those without
    data are."""

    def __init__(self, *, doubles: bool = False) -> None:
        self._random = random.Random(7)
        self._doubles = doubles
        self.lost = self.superframes = self.copies = self.doubled = 0

    def __call__(self, frame: memoryview, length: int) -> Sequence[bytes | memoryview]:
        found = shape(frame, length)
        self.superframes += found.segments > 1
        kept: list[tuple[int, int]] = []
        twice: list[bytes] = []
        for number in range(found.segments):
            if length > SHORT and self._random.random() < 0.01:
                self.lost += 1
            elif kept and kept[-1][1] == number:
                kept[-1] = (kept[-1][0], number + 1)
            else:
                kept.append((number, number + 1))
            if self._doubles and self._random.random() < 0.01:
                twice.append(extract(frame, found, number, number + 1))
        self.doubled += len(twice)
        made = pieces(frame, found, kept)
        self.copies += sum(each.copy is not None for each in made)
        return [each.copy or frame[each.offset : each.offset + each.length] for each in made] + twice


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_a_stream_arrives_whole_and_each_lost_segment_is_sent_again(pump: Pump, version: int) -> None:
    pump.change = losing = Losing()
    transfers.tcp(*pump.ends, ADDRESSES[1][version], 50_000_000)
    assert losing.superframes > 100
    assert 100 < losing.lost <= statistics(pump.ends[0])["TcpRetransSegs"]
    assert [checksum_errors(end) for end in pump.ends] == [0, 0]
    assert losing.copies == 0


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_doubled_segments_are_whole_segments(pump: Pump, version: int) -> None:
    pump.change = losing = Losing(doubles=True)
    transfers.tcp(*pump.ends, ADDRESSES[1][version], 5_000_000)
    assert losing.doubled > 10
    assert statistics(pump.ends[1])["TcpExtTCPDSACKOldSent"] > 0
    assert [checksum_errors(end) for end in pump.ends] == [0, 0]


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_exactly_the_datagrams_that_were_cut_out_are_missing(pump: Pump, version: int) -> None:
    """A sender with UDP_SEGMENT, as QUIC's are."""
    pump.change = losing = Losing()
    family, address = (socket.AF_INET, socket.AF_INET6)[version], ADDRESSES[1][version]
    transfers.ping(pump.ends[0], address, count=1)
    sender, receiver = (each.socket(family, socket.SOCK_DGRAM) for each in pump.ends)
    force_receive_buffer(receiver, 1 << 26)
    receiver.bind((address, 0))
    sender.connect(receiver.getsockname()[:2])
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
    for first in range(0, 4000, 40):
        sender.send(b"".join(number.to_bytes(4) * 250 for number in range(first, first + 40))[:-500])
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 0)
    sender.send(b"end")
    arrived: set[int] = set()
    while (datagram := receiver.recv(2000)) != b"end":
        number = int.from_bytes(datagram[:4])
        assert datagram == number.to_bytes(4) * (250 if number % 40 != 39 else 125)
        arrived.add(number)
    assert losing.superframes == 100
    assert len(arrived) + losing.lost == 4000
    assert losing.lost > 10
    assert [checksum_errors(end) for end in pump.ends] == [0, 0]
