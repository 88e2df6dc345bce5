"""A pair with several queues: several workers forward its flows, each flow by one worker and in order."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.scenarios.lab import NAMESPACES, Lab, pair
from tests.scenarios.transfers import BLUE, RED, Sink, add_neighbour, datagrams, send, tcp

pytestmark = pytest.mark.real

FRAME = 10 + 14 + 20 + 8 + 64
"""Bytes that a worker reads for a datagram of 64: preceded by virtio_net_hdr, Ethernet, IPv4 and UDP."""
MANY = 64
"""Datagrams in flight at once, which fit into a receive buffer."""
ROUNDS = 100
FLOWS_TRIED = 64
"""If the kernel chose at random, all flows would fall on one of two queues once in 2**63 times."""
_NUMBER = struct.Struct("!Q56x")


@dataclass(frozen=True, slots=True)
class Flow:
    """Two connected sockets."""

    red: socket.socket
    blue: socket.socket

    @classmethod
    def between(cls, lab: Lab) -> Self:
        """Return a new flow between free ports."""
        flow = cls(*(lab[name].socket(socket.AF_INET, socket.SOCK_DGRAM) for name in ("red", "blue")))
        flow.red.bind((RED, 0))
        flow.blue.bind((BLUE, 0))
        flow.red.connect(flow.blue.getsockname())
        flow.blue.connect(flow.red.getsockname())
        return flow


def read(workers: Sequence[int]) -> list[int]:
    """Return the bytes that each process has read; a worker reads nothing but frames."""
    return [_io(pid, "rchar") for pid in workers]


def written(workers: Sequence[int]) -> list[int]:
    """Return the bytes that each process has written."""
    return [_io(pid, "wchar") for pid in workers]


def _io(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def growth(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return the growth of each number."""
    return [now - then for then, now in zip(before, after, strict=True)]


def cross(source: Sequence[socket.socket], target: Sequence[socket.socket]) -> None:
    """Send datagrams from each socket to its peer, in turn; each must get its own, once and in order."""
    for number in range(MANY):
        for each in source:
            each.send(_NUMBER.pack(number))
    for each in target:
        assert [_NUMBER.unpack(each.recv(2048))[0] for _ in range(MANY)] == list(range(MANY))


def test_each_flow_has_one_worker_both_ways_and_keeps_its_order(lab: Lab) -> None:
    red, blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(ipv6=False, queues=2), workers=2)
    add_neighbour(red, blue, BLUE)
    add_neighbour(blue, red, RED)
    workers = daemon.workers()
    flows: dict[int, Flow] = {}
    for _ in range(FLOWS_TRIED):
        flow, before = Flow.between(lab), read(workers)
        cross([flow.red], [flow.blue])
        share = growth(before, read(workers))
        assert sorted(share) == [0, MANY * FRAME]
        flows.setdefault(share.index(MANY * FRAME), flow)
        if len(flows) == len(workers):
            break
    reds, blues = zip(*((flow.red, flow.blue) for flow in flows.values()), strict=True)
    before = read(workers)
    for _ in range(ROUNDS):
        cross(reds, blues)
        cross(blues, reds)
    assert growth(before, read(workers)) == [2 * ROUNDS * MANY * FRAME] * 2
    daemon.at_rest()


def test_with_two_queues_both_workers_carry_and_no_flow_is_reordered(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(queues=2), workers=2, worker_timeout=0)
    red, blue = lab["red"], lab["blue"]
    datagrams(red, blue, BLUE, 5000, flows=8, window=200)
    datagrams(blue, red, RED, 5000, flows=8, window=200)
    tcp(red, blue, BLUE, 20_000_000)
    before = written(daemon.workers())
    with Sink(blue, BLUE) as sink:
        for flow in range(32):
            send(red, BLUE, sink.port, [flow])
        sink.await_arrivals(32)
        assert sorted(sink.arrived()) == list(range(32))
    assert all(growth(before, written(daemon.workers())))
    assert daemon.at_rest().interface("epair0a").worker == "0,1"
