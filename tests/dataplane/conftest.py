"""A cable without a kernel: each device is one end of a datagram socketpair, which keeps frames whole,
fails with EAGAIN when its reader does not read, and needs no root."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from epaird.dataplane.crossconnect import CrossConnect
from epaird.dataplane.frames import HEADER
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.dataplane.queue import Queue
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    IERRORS,
    IN_FLIGHT,
    IPACKETS,
    OERRORS,
    OPACKETS,
    REASONS,
)
from epaird.ipc.ledger import Table

PLAIN = bytes(HEADER)
"""The virtio_net_hdr of a frame without offloads."""


def frame(payload: bytes = b"", to: bytes = b"\x02\0\0\0\0\x0b") -> bytes:
    """Return a plain frame as it is read from a device."""
    return PLAIN + to + b"\x02\0\0\0\0\x0a" + b"\x88\xb5" + payload


def numbered(count: int, size: int = 50) -> list[bytes]:
    return [frame(number.to_bytes(4, "big") + bytes(size)) for number in range(count)]


class Owner:
    """The owner of a device, as the stack of a namespace is the owner of a TAP."""

    def __init__(self) -> None:
        self.end, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.setblocking(False)
        self.device.setblocking(False)

    def sends(self, *frames: bytes) -> None:
        for each in frames:
            self.end.send(each)

    def receives(self) -> list[bytes]:
        """Return everything that was delivered since the last call."""
        received = []
        while True:
            try:
                received.append(self.end.recv(1 << 17))
            except BlockingIOError:
                return received

    def close(self) -> None:
        self.end.close()
        self.device.close()


@dataclass
class Polls:
    """A Poller that records its calls."""

    reading: set[Port] = field(default_factory=set)
    awaiting_room: set[Port] = field(default_factory=set)
    restart_requested: bool = False
    vanished: list[Port] = field(default_factory=list)
    unknown: list[tuple[Port, int]] = field(default_factory=list)

    def start_reading(self, port: Port) -> None:
        self.reading.add(port)

    def stop_reading(self, port: Port) -> None:
        self.reading.discard(port)

    def await_room(self, port: Port) -> None:
        self.awaiting_room.add(port)

    def await_restart(self) -> None:
        self.restart_requested = True

    def gone(self, port: Port) -> None:
        self.stop_reading(port)
        self.vanished.append(port)

    def unknown_family(self, port: Port, version: int) -> None:
        self.unknown.append((port, version))


class CheckedPipeline(Pipeline):
    """Checks after each burst that no more frames wait for its receiver than the quota, the frames that a
    flush had to keep, and the segments that the burst has added."""

    def transmit(self, source: Port) -> bool:
        receiver = source.receiver
        before, added = len(receiver.backlog), receiver.account.words[ADDED_SEGMENTS]
        exhausted = super().transmit(source)
        added = receiver.account.words[ADDED_SEGMENTS] - added
        assert len(receiver.backlog) <= max(before, self.queue.quota + added)
        return exhausted


class Bench:
    """The data plane of a worker with its cables, driven by hand."""

    def __init__(self, limit: int = 2100, cables: int = 1) -> None:
        self.table = Table.create(1 + 2 * cables)
        self.words = self.table.slot(0)
        self.polls = Polls()
        self.queue = Queue(limit, self.words)
        self.pipeline = CheckedPipeline(self.queue, self.polls)
        self.owners: list[Owner] = []
        self.ports: list[Port] = []
        self.crossconnects: dict[Port, CrossConnect] = {}
        for number in range(2 * cables):
            owner = Owner()
            name = f"epair{number // 2}{'ab'[number % 2]}"
            port = Port(name, owner.device.fileno(), self.table.slot(1 + number))
            self.owners.append(owner)
            self.ports.append(port)
            self.polls.start_reading(port)
        for number in range(0, 2 * cables, 2):
            halves = self.ports[number : number + 2]
            crossconnect = CrossConnect(self.pipeline, halves)
            for port in halves:
                self.crossconnects[port] = crossconnect
                port.limit = crossconnect.link.read_limit((1500, 1500))
                port.at_once = 64

    def peer(self, port: Port) -> Port:
        return self.crossconnects[port].peer(port)

    def loop(self) -> None:
        """Do what the worker's loop would do until nothing is left to do."""
        while True:
            before = self._progress()
            for port in self._readable():
                port.forwarding.exchange(port)
            for port in list(self.polls.awaiting_room):
                self.polls.awaiting_room.discard(port)
                self.pipeline.resume(port)
            if self.polls.restart_requested:
                self.polls.restart_requested = False
                if self.queue.restart_due:
                    self.pipeline.restart()
            if self._progress() == before and not self.polls.restart_requested:
                return

    def _readable(self) -> list[Port]:
        readable, _, _ = select.select([port.fd for port in self.polls.reading], [], [], 0)
        return [port for port in self.ports if port.fd in readable]

    def _progress(self) -> tuple[object, ...]:
        return self.queue.length, self.queue.drain_list, *(bytes(port.account.words) for port in self.ports)

    def check_ledger(self) -> None:
        """Check that what each port transmitted was delivered to its peer, waits for it, or is an error."""
        waiting = 0
        for port in self.ports:
            sent, peer = port.account.words, self.peer(port).account.words
            errors = sum(peer[IERRORS + reason] for reason in range(len(REASONS)))
            assert sent[OPACKETS] + peer[ADDED_SEGMENTS] == peer[IPACKETS] + peer[IN_FLIGHT] + errors
            assert port.refs == 1 + len(port.backlog) + port.listed
            waiting += len(port.backlog)
        assert self.queue.length == waiting

    def oerrors(self, port: Port) -> dict[str, int]:
        return {name: port.account.words[OERRORS + n] for n, name in enumerate(REASONS)}

    def ierrors(self, port: Port) -> dict[str, int]:
        return {name: port.account.words[IERRORS + n] for n, name in enumerate(REASONS)}

    def close(self) -> None:
        for owner in self.owners:
            owner.close()
        os.close(self.table.fd)


@pytest.fixture
def make_bench() -> Iterator[type[Bench]]:
    """A class of benches that are closed at the end of the test."""
    made: list[Bench] = []

    class Closing(Bench):
        def __init__(self, limit: int = 2100, cables: int = 1) -> None:
            super().__init__(limit, cables)
            made.append(self)

    yield Closing
    for bench in made:
        bench.close()
