"""A cable without a kernel: each device is one end of a datagram socketpair, which keeps frames whole,
says EAGAIN when its reader does not read, and needs no root."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from epaird.dataplane.forward import Forwarder
from epaird.dataplane.frames import HEADER, read_limit
from epaird.dataplane.interface import Interface, join
from epaird.dataplane.queue import Queue
from epaird.ipc.counters import IERRORS, IN_FLIGHT, IPACKETS, OERRORS, OPACKETS, REASONS
from epaird.ipc.ledger import Table

PLAIN = bytes(HEADER)
"""The virtio_net_hdr of a frame that is nothing special."""


def frame(payload: bytes = b"", to: bytes = b"\x02\0\0\0\0\x0b") -> bytes:
    """A plain frame as a device hands it over."""
    return PLAIN + to + b"\x02\0\0\0\0\x0a" + b"\x88\xb5" + payload


class Owner:
    """A device's owner: what a namespace's stack is to a TAP."""

    def __init__(self) -> None:
        self.end, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.setblocking(False)
        self.device.setblocking(False)

    def sends(self, *frames: bytes) -> None:
        for each in frames:
            self.end.send(each)

    def receives(self) -> list[bytes]:
        """Everything that has been delivered since it last looked."""
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
    """What the forwarder asked of its loop."""

    reading: set[Interface] = field(default_factory=set)
    awaiting_room: set[Interface] = field(default_factory=set)
    restart_asked: bool = False
    vanished: list[Interface] = field(default_factory=list)

    def start_reading(self, interface: Interface) -> None:
        self.reading.add(interface)

    def stop_reading(self, interface: Interface) -> None:
        self.reading.discard(interface)

    def await_room(self, interface: Interface) -> None:
        self.awaiting_room.add(interface)

    def await_restart(self) -> None:
        self.restart_asked = True

    def gone(self, interface: Interface) -> None:
        self.stop_reading(interface)
        self.vanished.append(interface)


class Bench:
    """A worker's forwarder with its cables, driven by hand."""

    def __init__(self, limit: int = 2100, cables: int = 1) -> None:
        self.table = Table.create(1 + 2 * cables)
        self.words = self.table.slot(0)
        self.polls = Polls()
        self.queue = Queue(limit, self.words)
        self.forwarder = Forwarder(self.queue, self.polls)
        self.owners: list[Owner] = []
        self.interfaces: list[Interface] = []
        for number in range(2 * cables):
            owner = Owner()
            name = f"epair{number // 2}{'ab'[number % 2]}"
            interface = Interface(name, owner.device.fileno(), self.table.slot(1 + number))
            interface.limit = read_limit(1500, 1500)
            interface.at_once = 64
            self.owners.append(owner)
            self.interfaces.append(interface)
            self.polls.start_reading(interface)
        for number in range(0, 2 * cables, 2):
            join(self.interfaces[number], self.interfaces[number + 1])

    def loop(self) -> None:
        """What the worker's loop would do until nothing is left to do."""
        while True:
            before = self._progress()
            for interface in self._readable():
                self.forwarder.exchange(interface)
            for interface in list(self.polls.awaiting_room):
                self.polls.awaiting_room.discard(interface)
                self.forwarder.resume(interface)
            if self.polls.restart_asked:
                self.polls.restart_asked = False
                if self.queue.restart_due:
                    self.forwarder.restart()
            if self._progress() == before and not self.polls.restart_asked:
                return

    def _readable(self) -> list[Interface]:
        readable, _, _ = select.select([each.fd for each in self.polls.reading], [], [], 0)
        return [each for each in self.interfaces if each.fd in readable]

    def _progress(self) -> tuple[object, ...]:
        return self.queue.length, self.queue.drain_list, *(bytes(i.words) for i in self.interfaces)

    def check_ledger(self) -> None:
        """What a sent has arrived at b, waits for b, or is an error of b."""
        for interface in self.interfaces:
            sent, peer = interface.words, interface.peer.words
            errors = sum(peer[IERRORS + reason] for reason in range(len(REASONS)))
            assert sent[OPACKETS] == peer[IPACKETS] + peer[IN_FLIGHT] + errors
            assert interface.refs == 1 + len(interface.backlog) + interface.listed
        assert self.queue.length == sum(len(i.backlog) for i in self.interfaces) <= self.queue.limit

    def oerrors(self, interface: Interface) -> dict[str, int]:
        return {name: interface.words[OERRORS + n] for n, name in enumerate(REASONS)}

    def ierrors(self, interface: Interface) -> dict[str, int]:
        return {name: interface.words[IERRORS + n] for n, name in enumerate(REASONS)}

    def close(self) -> None:
        for owner in self.owners:
            owner.close()
        os.close(self.table.fd)


@pytest.fixture
def make_bench() -> Iterator[type[Bench]]:
    """Makes benches, and closes them."""
    made: list[Bench] = []

    class Closing(Bench):
        def __init__(self, limit: int = 2100, cables: int = 1) -> None:
            super().__init__(limit, cables)
            made.append(self)

    yield Closing
    for each in made:
        each.close()
