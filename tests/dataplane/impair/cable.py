"""A cable with lines between TAP devices in two namespaces, forwarded by a worker process in its sandbox."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epaird.ipc import ring, settlement
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    CUT,
    DUPLICATED,
    ESEGMENTS,
    IERRORS,
    IMPAIRED,
    IPACKETS,
    ISEGMENTS,
    OERRORS,
    OPACKETS,
    OSEGMENTS,
    REASONS_MAX,
    WORKER_LOST,
)
from epaird.ipc.encoding import decode, encode
from epaird.ipc.impairment import LineParameters, LineSpec
from epaird.ipc.ledger import Table, Words
from epaird.ipc.messages import (
    Attach,
    CableSpec,
    Detach,
    Done,
    Impair,
    Message,
    Overflow,
    PortSpec,
    Ready,
    Start,
)
from epaird.ipc.ring import Ring
from epaird.ipc.ringsoundness import fault_of
from epaird.kernel import namespace, tun
from tests.kernel.named import within
from tests.waiting import DEADLINE_S, until

ETHERTYPE = b"\x88\xb5"
MACS = (b"\x02\0\0\0\0\x0a", b"\x02\0\0\0\0\x0b")
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
PACKET_IGNORE_OUTGOING = 23
SOL_PACKET = 263
PACKET_VNET_HDR = 15
BUFFER = 64 << 20


class Station:
    """The owner of one device: frames are sent and received by a socket in its namespace."""

    def __init__(self, netns: str, side: int, offload: bool, stack: ExitStack) -> None:
        self.netns = netns
        self.side = side
        namespace.create(netns)
        stack.callback(namespace.remove, netns)
        with within(netns):
            for path in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{path}/disable_ipv6").write_text("1")
            self.tap = tun.open_tap("eth0", offload=offload)
            stack.callback(self.tap.close)
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            stack.callback(self.socket.close)
        self.ip("link set eth0 up txqueuelen 20000")
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.bind(("eth0", ETH_P_ALL))
        self.socket.setblocking(False)
        self.received: list[bytes] = []
        """Frames that were delivered, virtio_net_hdr included."""

    def ip(self, command: str) -> str:
        done = subprocess.run(
            ["ip", "-n", self.netns, *command.split()], check=True, capture_output=True, text=True
        )
        return done.stdout

    def statistics(self, direction: str) -> dict[str, int]:
        (found,) = json.loads(self.ip("-j -s link show eth0"))
        statistics: dict[str, int] = found["stats64"][direction]
        return statistics

    def send(self, *frames: bytes) -> None:
        """Transmit frames that start with a virtio_net_hdr."""
        for each in frames:
            self.socket.send(each)

    def numbered(self, first: int, count: int, size: int = 60) -> None:
        """Transmit frames that have numbers from ``first`` on."""
        to, own = MACS[1 - self.side], MACS[self.side]
        head, rest = bytes(10) + to + own + ETHERTYPE, bytes(size)
        self.send(*(head + struct.pack(">I", first + each) + rest for each in range(count)))

    def collect(self) -> list[bytes]:
        """Return all frames that were delivered until now."""
        while True:
            try:
                self.received.append(self.socket.recv(1 << 17))
            except BlockingIOError:
                return self.received
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # reported once, after the device was set down
                    raise

    def numbers(self) -> list[int]:
        """Return the numbers of the frames that were delivered until now."""
        return [int.from_bytes(each[24:28]) for each in self.collect() if each[22:24] == ETHERTYPE]

    def waits_for(self, count: int) -> list[int]:
        """Return the numbers once so many frames have been delivered."""
        until(lambda: len(self.numbers()) >= count, lambda: f"{len(self.numbers())} of {count}")
        return self.numbers()


@dataclass
class WorkerUnderTest:
    """A worker process and the connection to it."""

    process: subprocess.Popen[bytes]
    control: socket.socket

    def receive(self) -> Message:
        return decode(self.control.recv(65536))


class Cable:
    """The cable ``epair0``; its lines are the ports' by number."""

    def __init__(self, prefix: str, stack: ExitStack, offloads: Sequence[bool] = (True, True)) -> None:
        self.stations = tuple(
            Station(f"{prefix}-{side}", number, offloads[number], stack) for number, side in enumerate("ab")
        )
        self.a, self.b = self.stations
        self.offloads = tuple(offloads)
        self.table = Table.create(8)
        stack.callback(os.close, self.table.fd)
        self.rings = [ring.create(f"epair0{side}", BUFFER) for side in "ab"]
        for fd in self.rings:
            stack.callback(os.close, fd)
        self.worker: WorkerUnderTest | None = None
        stack.callback(self.kill)
        self.events: list[Message] = []
        self.mtus = [1500, 1500]
        self.specs: list[tuple[LineSpec, ...]] = [(), ()]
        self._requests = 0

    def spec(self, side: int = 0, **parameters: Any) -> LineSpec:  # noqa: ANN401
        buffer = parameters.pop("buffer", BUFFER)
        return LineSpec(
            slot=3 + side, seed=7, applied_ns=time.monotonic_ns(), buffer=buffer,
            parameters=LineParameters(**parameters),
        )  # fmt: skip

    def words(self, slot: int) -> Words:
        """The words of a slot: 1 and 2 are the ports', 3 and 4 their lines'."""
        return self.table.slot(slot)

    def start(self, a: LineSpec | None = None, b: LineSpec | None = None) -> None:
        """Start a worker process and have it forward the cable."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-m", "epaird.dataplane", str(far.fileno())]
        with far:
            process = subprocess.Popen(command, pass_fds=(far.fileno(),))
        near.settimeout(DEADLINE_S)
        self.worker = WorkerUnderTest(process, near)
        socket.send_fds(near, [encode(Start(0, 0, 4096))], (self.table.fd,))
        assert self.worker.receive() == Ready(process.pid)
        self.attach(a, b)

    def attach(self, a: LineSpec | None = None, b: LineSpec | None = None) -> None:
        self.specs = [(each,) if each else () for each in (a, b)]
        ports = tuple(
            PortSpec(f"epair0{'ab'[n]}", 1 + n, self.mtus[n], self.offloads[n], line=self.specs[n])
            for n in (0, 1)
        )
        fds = [station.tap.fds[0] for station in self.stations]
        fds += [fd for fd, line in zip(self.rings, self.specs, strict=True) if line]
        self.ask(Attach(self._next(), CableSpec("epair0", ports, coalesce=True)), *fds)

    def impair(self, side: int, spec: LineSpec | None) -> None:
        """Change the line of a port in place."""
        line = (spec,) if spec else ()
        self.ask(Impair(self._next(), "epair0", side, line), *([self.rings[side]] if spec else []))

    def detach(self) -> None:
        self.ask(Detach(self._next(), "epair0", 5.0))

    def ask(self, request: Any, *fds: int) -> None:  # noqa: ANN401
        assert self.worker is not None
        socket.send_fds(self.worker.control, [encode(request)], fds)
        while not isinstance(message := self.worker.receive(), Done):
            self.events.append(message)
        assert message == Done(request.id), message

    def event(self) -> Message:
        """Return the next event that is no Overflow."""
        while isinstance(found := self.events.pop(0) if self.events else self._received(), Overflow):
            pass
        return found

    def kill(self) -> None:
        """Kill the worker process, if there is one."""
        if self.worker is not None:
            self.worker.process.send_signal(signal.SIGKILL)
            self.worker.process.wait()
            self.worker.control.close()
            self.worker = None

    def settle(self) -> int:
        """Account for what the worker had in hand, as the control plane does; return what was lost."""
        lost = 0
        for side in (0, 1):
            sender, receiver, line = (self.words(slot) for slot in (1 + side, 2 - side, 3 + side))
            written = self.stations[1 - side].statistics("rx")["packets"]
            read = self.stations[side].statistics("tx")["packets"]
            mapped = Ring(self.rings[side])
            mapped.settle(written, receiver)
            mapped.mirror(line)
            assert not fault_of(mapped)
            held = mapped.held().frames
            mapped.close()
            before = self.balance(side, held=held)
            lost += settlement.settle(
                sender,
                receiver,
                read=read,
                written=written,
                base=held + _total(line, IMPAIRED) - line[CUT] - line[DUPLICATED],
            )
            assert before >= 0
        return lost

    def balance(self, side: int, held: int = 0) -> int:
        """Return the frames that ``side`` transmitted and that have no fate."""
        sender, receiver, line = (self.words(slot) for slot in (1 + side, 2 - side, 3 + side))
        return (
            sender[OPACKETS] + receiver[ADDED_SEGMENTS] + line[CUT] + line[DUPLICATED]
            - receiver[IPACKETS] - held - _total(receiver, IERRORS) - _total(line, IMPAIRED)
        )  # fmt: skip

    def check(self) -> None:
        """Check that everything has one fate: nothing is held, and no frame is on its way."""
        for side in (0, 1):
            sender, receiver, line = (self.words(slot) for slot in (1 + side, 2 - side, 3 + side))
            until(lambda: self.balance(side) == 0, lambda: self.balance(side))  # noqa: B023
            assert self.stations[side].statistics("tx")["packets"] == sender[OPACKETS] + _total(
                sender, OERRORS
            )
            assert self.stations[1 - side].statistics("rx")["packets"] == settlement.writes(receiver)
            if line[OSEGMENTS] and not receiver[IERRORS + WORKER_LOST]:
                fates = line[ISEGMENTS] + line[ESEGMENTS] + _total(line, IMPAIRED)
                assert line[OSEGMENTS] + line[DUPLICATED] == fates

    def _received(self) -> Message:
        assert self.worker is not None
        return self.worker.receive()

    def _next(self) -> int:
        self._requests += 1
        return self._requests


def _total(words: Words, first: int) -> int:
    return sum(words[first : first + REASONS_MAX])


def errors(cable: Cable, slot: int, first: int = IERRORS) -> dict[int, int]:
    """Return the errors of a port by reason, without zeros."""
    words = cable.words(slot)
    return {reason: words[first + reason] for reason in range(REASONS_MAX) if words[first + reason]}


@contextmanager
def impaired(prefix: str, offloads: Sequence[bool] = (True, True)) -> Iterator[Cable]:
    """A cable in namespaces of this prefix, without a worker yet."""
    with ExitStack() as stack:
        yield Cable(prefix, stack, offloads)


def without_worker_loss(cable: Cable) -> bool:
    return not cable.words(2)[IERRORS + WORKER_LOST]


def later(spec: LineSpec, **changes: Any) -> LineSpec:  # noqa: ANN401
    """Return a specification with other parameters."""
    return replace(spec, parameters=replace(spec.parameters, **changes), applied_ns=time.monotonic_ns())
