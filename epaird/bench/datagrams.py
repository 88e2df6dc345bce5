"""The sender and the receiver of datagrams, programs that ``epaird bench`` starts in its namespaces.

    python -m epaird.bench.datagrams sink FLOOD     says "ready"; ends some time after its stdin has ended
    python -m epaird.bench.datagrams send FLOOD     says "ready"; begins when its stdin has a line

FLOOD is a :class:`Flood` in JSON.  Each says what it did in one line of JSON.  The sender goes as fast as
sendmmsg() lets it: 64 datagrams a call, each a datagram of its own in every respect, since enable_gro ones
(UDP_SEGMENT) would measure something else; those are sent only where ``segments`` says so.
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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Final

from epaird.bench.mmsg import Batch, enable_gro, enable_segmentation
from epaird.kernel import abi

PORT: Final = 9862
_BATCH: Final = 64
"""Datagrams a system call."""
_BATCH_BYTES: Final = 1 << 19
"""And bytes: a few super-frames, so that they are sent while they are in the cache."""
_RECEIVE_BUFFER: Final = 1 << 26
"""Bytes, of all receivers together: what is lost shall be lost on the way, not behind it."""
_TICK_MS: Final = 100
"""How long nothing has to come for the receiver to believe that nothing more will."""
_CLOCK_EVERY: Final = 16
"""Batches between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Flood:
    """What is sent, to whom, for how long."""

    addresses: tuple[str, ...]
    """The receivers, a flow to each, in turn."""
    size: int
    """Bytes of a datagram, 8 at least."""
    segments: int
    """Datagrams that the sender joins into one message; 1: none are."""
    seconds: float

    def batch(self) -> Batch:
        """Messages to send, or room for them."""
        return Batch(
            max(1, min(_BATCH, _BATCH_BYTES // (self.size * self.segments))), self.size, self.segments
        )

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Flood:
        """The inverse of to_json."""
        fields = json.loads(text)
        return cls(**{**fields, "addresses": tuple(fields["addresses"])})


@dataclass(frozen=True, slots=True)
class Sent:
    """What the sender did."""

    datagrams: int
    """How many the kernel took."""
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived."""

    datagrams: int
    reordered: int
    """How many came after one of the same flow that was sent later."""
    first: float
    """When the first came, in seconds of the monotonic clock; 0 when none did."""
    last: float
    cpu_seconds: float


class Order:
    """Whether one flow's datagrams come in the order of their numbers."""

    def __init__(self) -> None:
        self.reordered = 0
        self._highest = -1

    def take(self, numbers: list[int]) -> None:
        """The next datagrams' numbers, one at least."""
        if numbers[0] >= self._highest and sorted(numbers) == numbers:
            self._highest = numbers[-1]
            return
        for number in numbers:
            self.reordered += number < self._highest
            self._highest = max(self._highest, number)


def send(flood: Flood, begin: Callable[[], object]) -> Sent:
    """Send to each address in turn, a batch at a time, until the time is over."""
    batch = flood.batch()
    with contextlib.ExitStack() as stack:
        flows = [stack.enter_context(_outgoing(address, flood)) for address in flood.addresses]
        numbers = [0] * len(flows)
        begin()
        cpu, end = time.process_time(), time.monotonic() + flood.seconds
        for turn in itertools.count():
            if turn % _CLOCK_EVERY == 0 and time.monotonic() >= end:
                break
            flow = turn % len(flows)
            numbers[flow] += batch.send(flows[flow], numbers[flow])
        return Sent(sum(numbers), time.process_time() - cpu)


def sink(flood: Flood, ready: Callable[[], object], ended: Callable[[], bool]) -> Received:
    """Receive until ``ended`` and nothing has come for a tick."""
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
    try:
        flow.setsockopt(socket.SOL_SOCKET, abi.SO_RCVBUFFORCE, room)
    except PermissionError:
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    flow.bind((address, PORT))
    return flow


def _waiting(
    flows: tuple[socket.socket, ...], stack: contextlib.ExitStack
) -> tuple[Callable[[], Iterable[socket.socket]], int]:
    """How to learn which of them have something, for a tick at most, and the flags to receive it with."""
    if len(flows) == 1:
        # One system call a batch instead of two.
        tick = struct.pack("ll", 0, _TICK_MS * 1000)
        flows[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, tick)
        return lambda: flows, abi.MSG_WAITFORONE
    epoll = stack.enter_context(select.epoll())
    by_fd = {flow.fileno(): flow for flow in flows}
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    return lambda: [by_fd[fd] for fd, _ in epoll.poll(_TICK_MS / 1000)], socket.MSG_DONTWAIT


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _stdin_ended() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable)


def main(arguments: list[str]) -> int:
    """Be what the first argument says."""
    role, flood = arguments[0], Flood.from_json(arguments[1])
    if role == "sink":
        _say(json.dumps(asdict(sink(flood, lambda: _say("ready"), _stdin_ended))))
    else:
        _say("ready")
        _say(json.dumps(asdict(send(flood, sys.stdin.readline))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
