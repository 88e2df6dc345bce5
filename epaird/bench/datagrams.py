"""Sender and receiver of datagrams, programs that ``epaird bench`` starts in its namespaces.

    python -m epaird.bench.datagrams sink FLOOD     prints "ready"; ends some time after the end of its stdin
    python -m epaird.bench.datagrams send FLOOD     prints "ready"; begins when its stdin has a line

FLOOD is a :class:`Flood` in JSON. Each program prints its results in one line of JSON. The sender is as fast
as sendmmsg() permits: 64 datagrams per call, each sent separately, since coalesced ones (UDP_SEGMENT) would
measure something else; the sender uses UDP_SEGMENT only where ``segments`` requests it. Where ``per_second``
requests a rate, it sends every millisecond what is due.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

from epaird.bench.mmsg import Batch, enable_gro, enable_segmentation
from epaird.bench.output import stdin_ended, write_line
from epaird.kernel import abi
from epaird.kernel.netlink import set_receive_buffer

PORT: Final = 9862
_BATCH: Final = 64
"""Most messages per system call."""
_BATCH_BYTES: Final = 1 << 19
"""Most bytes per system call: a few super-frames, so that they are sent while they are in the cache."""
_RECEIVE_BUFFER: Final = 1 << 26
"""Bytes, for all receivers together: large enough that datagrams are lost on the cable, not after it."""
_TICK_MS: Final = 100
"""Silence after which the receiver regards the flood as over."""
_CLOCK_EVERY: Final = 16
"""Batches between two readings of the clock."""
_PACE_S: Final = 0.001
"""Pause of a sender at a rate. Shorter ones would take a core from the cable."""


@dataclass(frozen=True, slots=True)
class Flood:
    """The datagrams to send."""

    addresses: tuple[str, ...]
    """The receivers, with one flow each, in turn."""
    size: int
    """Size of a datagram in bytes, at least 8."""
    segments: int
    """Datagrams that the sender coalesces into one message; 1: none."""
    seconds: float
    """Duration in seconds."""
    per_second: int = 0
    """Datagrams a second over all addresses; 0: as fast as possible."""

    def batch(self) -> Batch:
        """Return a batch of messages to send, or of buffers to receive them."""
        room = 1 if self.per_second else _BATCH
        return Batch(max(1, min(room, _BATCH_BYTES // (self.size * self.segments))), self.size, self.segments)

    def to_json(self) -> str:
        """Encode as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Flood:
        """Decode the output of :meth:`to_json`."""
        fields = json.loads(text)
        return cls(**{**fields, "addresses": tuple(fields["addresses"])})


@dataclass(frozen=True, slots=True)
class Sent:
    """The results of a sender."""

    datagrams: int
    """Datagrams that the kernel accepted."""
    cpu_seconds: float
    """CPU time in seconds."""


@dataclass(frozen=True, slots=True)
class Received:
    """The results of a receiver."""

    datagrams: int
    """Datagrams that arrived."""
    reordered: int
    """Datagrams that arrived after a later one of the same flow."""
    first: float
    """Arrival of the first, in seconds of the monotonic clock; 0 when none arrived."""
    last: float
    """Arrival of the last, likewise."""
    cpu_seconds: float
    """CPU time in seconds."""


class Order:
    """A check of the order of one flow's datagrams, by their sequence numbers."""

    def __init__(self) -> None:
        self.reordered = 0
        """Datagrams that arrived after a later one."""
        self._highest = -1

    def take(self, numbers: list[int]) -> None:
        """Check the numbers of the next datagrams, at least one."""
        if numbers[0] >= self._highest and sorted(numbers) == numbers:
            self._highest = numbers[-1]
            return
        for number in numbers:
            self.reordered += number < self._highest
            self._highest = max(self._highest, number)


def send(flood: Flood, begin: Callable[[], object]) -> Sent:
    """Send to each address in turn, a batch at a time, for the duration of the flood.

    ``begin`` is called when the sockets are ready, and blocks until the flood may begin.
    """
    batch = flood.batch()
    with contextlib.ExitStack() as stack:
        flows = [stack.enter_context(_outgoing(address, flood)) for address in flood.addresses]
        numbers = [0] * len(flows)
        begin()
        cpu, start = time.process_time(), time.monotonic()
        for turn in _paced(flood, start) if flood.per_second else _unpaced(start + flood.seconds):
            flow = turn % len(flows)
            numbers[flow] += batch.send(flows[flow], numbers[flow])
        return Sent(sum(numbers), time.process_time() - cpu)


def _unpaced(end: float) -> Iterator[int]:
    """Yield the number of each batch until a time."""
    for turn in itertools.count():
        if turn % _CLOCK_EVERY == 0 and time.monotonic() >= end:
            return
        yield turn


def _paced(flood: Flood, start: float) -> Iterator[int]:
    """Yield the number of each datagram when it is due; those that are overdue follow each other at once."""
    total, turn = int(flood.per_second * flood.seconds), 0
    while turn < total:
        due = min(total, int((time.monotonic() - start) * flood.per_second) + 1)
        yield from range(turn, due)
        turn = due
        time.sleep(_PACE_S)


def sink(flood: Flood, ready: Callable[[], object], ended: Callable[[], bool]) -> Received:
    """Receive until ``ended`` returns True and no datagram has arrived for a tick.

    ``ready`` is called when the sockets are ready.
    """
    batch = flood.batch()
    with contextlib.ExitStack() as stack:
        room = _RECEIVE_BUFFER // len(flood.addresses)
        flows = {
            flow: Order()
            for flow in (stack.enter_context(_incoming(address, room)) for address in flood.addresses)
        }
        if flood.segments > 1:
            for flow in flows:
                enable_gro(flow)
        wait, flags = _waiting(tuple(flows), stack)
        ready()
        datagrams, first, last, cpu = 0, 0.0, 0.0, time.process_time()
        while True:
            before = datagrams
            for flow in wait():
                messages = batch.receive(flow, flags)
                if messages:
                    numbers = batch.numbers(messages)
                    flows[flow].take(numbers)
                    datagrams += len(numbers)
            if datagrams > before:
                last = time.monotonic()
                first = first or last
            elif ended():
                reordered = sum(order.reordered for order in flows.values())
                return Received(datagrams, reordered, first, last, time.process_time() - cpu)


def _outgoing(address: str, flood: Flood) -> socket.socket:
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow.connect((address, PORT))
    if flood.segments > 1:
        enable_segmentation(flow, flood.size)
    return flow


def _incoming(address: str, room: int) -> socket.socket:
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    set_receive_buffer(flow, room)
    flow.bind((address, PORT))
    return flow


def _waiting(
    flows: tuple[socket.socket, ...], stack: contextlib.ExitStack
) -> tuple[Callable[[], Iterable[socket.socket]], int]:
    """Return a function that waits up to a tick for readable flows, and the flags for receiving."""
    if len(flows) == 1:
        # One system call per batch instead of two.
        tick = struct.pack("ll", 0, _TICK_MS * 1000)
        flows[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, tick)
        return lambda: flows, abi.MSG_WAITFORONE
    epoll = stack.enter_context(select.epoll())
    by_fd = {flow.fileno(): flow for flow in flows}
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    return lambda: [by_fd[fd] for fd, _ in epoll.poll(_TICK_MS / 1000)], socket.MSG_DONTWAIT


def main(arguments: list[str]) -> int:
    """Run the program named by the first argument."""
    role, flood = arguments[0], Flood.from_json(arguments[1])
    if role == "sink":
        write_line(json.dumps(asdict(sink(flood, lambda: write_line("ready"), stdin_ended))))
    else:
        write_line("ready")
        write_line(json.dumps(asdict(send(flood, sys.stdin.readline))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
