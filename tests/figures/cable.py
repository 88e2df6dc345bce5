"""A cable of real devices without a daemon: the forwarding path, called directly.

It imports only what a worker needs and what creates devices, so that it runs under any Python with these.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Final

from epaird.bench.mmsg import Batch
from epaird.dataplane.burst import BURST_FRAMES
from epaird.dataplane.crossconnect import CrossConnect
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.dataplane.queue import Queue
from epaird.ipc.counters import IPACKETS
from epaird.ipc.ledger import Table
from epaird.kernel import namespace, tun
from tests.kernel.named import within
from tests.sockets import force_receive_buffer

RED: Final = "10.9.0.1"
BLUE: Final = "10.9.0.2"
_MTU: Final = 1500
_ROOMY: Final = 1 << 26
_SUPER_FRAMES: Final = 4
_SUPER_FRAME: Final = 65536 - 1448


class Quiet:
    """An event loop that does nothing: no queue fills here, and no device goes away."""

    def start_reading(self, port: Port) -> None: ...
    def stop_reading(self, port: Port) -> None: ...
    def await_room(self, port: Port) -> None: ...
    def await_restart(self) -> None: ...
    def gone(self, port: Port) -> None: ...
    def unknown_family(self, port: Port, version: int) -> None: ...


class Cable:
    """The namespaces red and blue and the cable between them, from ``with`` to its end."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Cable:
        with contextlib.ExitStack() as stack:
            table = Table.create(3)
            stack.callback(os.close, table.fd)
            self.places = {name: f"epfig{os.getpid()}{name}" for name in ("red", "blue")}
            ends = []
            for slot, (name, address) in enumerate(zip(self.places, (RED, BLUE), strict=True), 1):
                tap = _device(stack, self.places[name], address)
                ends.append(Port(name, tap.fds[0], table.slot(slot)))
            self.red, self.blue = ends
            self.pipeline = Pipeline(Queue(2100, table.slot(0)), Quiet())
            self.forwarding = CrossConnect(self.pipeline, ends)
            for end in ends:
                end.limit, end.at_once = self.forwarding.link.read_limit((_MTU, _MTU)), BURST_FRAMES
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def endpoint(self, place: str, kind: int) -> socket.socket:
        """Return a socket in red or blue with a large receive buffer."""
        with within(self.places[place]):
            made = self._stack.enter_context(socket.socket(socket.AF_INET, kind))
        force_receive_buffer(made, _ROOMY)
        return made

    def both_ways(self) -> None:
        """Forward until nothing is left."""
        for end in (self.red, self.blue):
            while not self.forwarding.exchange(end):
                pass

    def resolve_neighbours(self, sender: socket.socket, receiver: socket.socket) -> None:
        """Let two sockets resolve each other's address, so that afterwards only their datagrams cross."""
        sender.send(bytes(8))
        deadline = time.monotonic() + 10
        receiver.setblocking(False)
        while time.monotonic() < deadline:
            self.both_ways()
            with contextlib.suppress(BlockingIOError):
                receiver.recv(8)
                return
        raise TimeoutError("nothing crosses")


def _device(stack: contextlib.ExitStack, place: str, address: str) -> tun.Tap:
    namespace.create(place)
    stack.callback(namespace.remove, place)
    with within(place):
        for which in ("all", "default"):
            with open(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "w") as file:  # noqa: PTH123
                file.write("1")
        tap = tun.open_tap("eth0")
    stack.callback(tap.close)
    for command in (
        "link set eth0 txqueuelen 10000 up",
        f"addr add {address}/24 dev eth0",
        "qdisc replace dev eth0 root noqueue",
    ):
        program = "tc" if command.startswith("qdisc") else "ip"
        subprocess.run([program, "-n", place, *command.split()], check=True, capture_output=True)
    return tap


Burst = Callable[[], int]
"""Fills a ring and forwards its contents; returns the nanoseconds of the forwarding."""


def nanoseconds(burst: Burst, frames: int, seconds: float) -> float:
    """Return the nanoseconds a frame takes: the median of bursts, which leaves disturbances out."""
    for _ in range(200):
        burst()
    end, samples = time.monotonic() + seconds, []
    while time.monotonic() < end:
        samples.append(burst())
    return statistics.median(samples) / frames


@contextlib.contextmanager
def datagrams(
    *, joined: bool, size: int = 64, flows: int = 1, mixed: bool = False
) -> Iterator[tuple[Cable, Burst, int]]:
    """Yield a cable, a function that measures a full burst of equal datagrams, and the frames of a burst.

    Several flows share a burst in contiguous pieces or, if ``mixed``, in turn.
    """
    with Cable() as cable:
        cable.red.coalesce = joined
        receiver = cable.endpoint("blue", socket.SOCK_DGRAM)
        receiver.bind((BLUE, 0))
        senders = [cable.endpoint("red", socket.SOCK_DGRAM) for _ in range(flows)]
        for sender in senders:
            sender.connect(receiver.getsockname())
        cable.resolve_neighbours(senders[0], receiver)
        turns = BURST_FRAMES // flows if mixed else 1
        outgoing, incoming = Batch(BURST_FRAMES // flows // turns, size), Batch(BURST_FRAMES, size)

        def burst() -> int:
            before = cable.blue.account.words[IPACKETS]
            for _ in range(turns):
                for sender in senders:
                    outgoing.send(sender, 0)
            start = time.perf_counter_ns()
            cable.pipeline.transmit(cable.red)
            took = time.perf_counter_ns() - start
            if cable.blue.account.words[IPACKETS] - before != BURST_FRAMES:
                raise RuntimeError("other frames cross than those sent")
            incoming.receive(receiver, socket.MSG_DONTWAIT)
            return took

        yield cable, burst, BURST_FRAMES


@contextlib.contextmanager
def stream() -> Iterator[tuple[Cable, Burst, int]]:
    """Yield the same as ``datagrams`` for a TCP stream, some super-frames and their ACKs at a time."""
    with Cable() as cable:
        listener, sender = (cable.endpoint(place, socket.SOCK_STREAM) for place in ("blue", "red"))
        listener.bind((BLUE, 0))
        listener.listen()
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sender.connect(listener.getsockname())
        listener.setblocking(False)
        receiver = _accepted(cable, listener)
        receiver.setblocking(False)
        chunk, into = bytes(_SUPER_FRAMES * _SUPER_FRAME), bytearray(1 << 20)

        def burst() -> int:
            took, missing = 0, sender.send(chunk)
            while missing:
                start = time.perf_counter_ns()
                cable.both_ways()
                took += time.perf_counter_ns() - start
                with contextlib.suppress(BlockingIOError):
                    missing -= receiver.recv_into(into)
            return took

        for _ in range(200):
            burst()
        before = cable.blue.account.words[IPACKETS]
        for _ in range(100):
            burst()
        yield cable, burst, round((cable.blue.account.words[IPACKETS] - before) / 100)


def _accepted(cable: Cable, listener: socket.socket) -> socket.socket:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        cable.both_ways()
        with contextlib.suppress(BlockingIOError):
            return listener.accept()[0]
    raise TimeoutError("no connection")
