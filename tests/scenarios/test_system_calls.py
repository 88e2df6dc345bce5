"""The cost of a frame in system calls: counted here, because ``make bench`` measures time."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from epaird.dataplane.burst import BURST_FRAMES
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.system_calls import CLOCK, NOTHING_TO_READ, WAIT, Core, Trace
from tests.scenarios.transfers import BLUE, RED, Sink, add_neighbour, datagrams, ping, tcp

pytestmark = pytest.mark.real

USUAL = {"read", "write", "writev", NOTHING_TO_READ, WAIT, CLOCK}
"""The calls that a worker without polling makes."""
BURSTS = 5
COALESCED = ("datagrams", "superframes")
SIZE = 64
"""Bytes of a datagram."""
_NUMBER = struct.Struct("!Q")
_IPV4 = struct.Struct("!4xH4xH")
"""The identification and checksum of an IPv4 header."""
_ETH_P_ALL = 0x0003


def cable(lab: Lab, *, poll_spin_us: int = 0, **settings: Any) -> Daemon:  # noqa: ANN401
    """Connect red and blue by one worker, with permanent neighbour entries on both sides.

    The worker has no timeout: under strace it would seem to hang.
    """
    red, blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(ipv6=False, **settings), workers=1, worker_timeout=0, poll_spin_us=poll_spin_us)
    ping(red, BLUE)
    add_neighbour(red, blue, BLUE)
    add_neighbour(blue, red, RED)
    return daemon


Flow = tuple[socket.socket, Sink]
"""A connected socket in red and its receiver in blue."""


@contextlib.contextmanager
def connected(lab: Lab, count: int = 1) -> Iterator[list[Flow]]:
    """Provide flows in which no datagram of this test ends a run.

    Each connect() gives a flow a random identification. A run ends where the identification or the checksum
    of the IPv4 header wraps, so both are to have room for the test's datagrams.
    """
    with contextlib.ExitStack() as stack:
        flows = []
        with lab["red"].socket(socket.AF_PACKET, socket.SOCK_DGRAM) as copies:
            copies.bind(("eth0", _ETH_P_ALL))
            for _ in range(count):
                sink = stack.enter_context(Sink(lab["blue"], BLUE))
                sender = stack.enter_context(lab["red"].socket(socket.AF_INET, socket.SOCK_DGRAM))
                room = 0
                while room <= BURSTS * BURST_FRAMES:
                    sender.connect((BLUE, sink.port))
                    sender.send(bytes(SIZE))
                    sink.expect(0, SIZE)
                    identification, checksum = _IPV4.unpack_from(copies.recv(65536))
                    room = min(0xFFFF - identification, checksum)
                flows.append((sender, sink))
        yield flows


def burst(
    core: Core, flows: Sequence[Flow], *, size: Callable[[int], int] = lambda _: SIZE
) -> list[list[int]]:
    """Send BURST_FRAMES datagrams, spread over the flows in turn, before the worker can read one.

    Returns the numbers that arrived, by flow.
    """
    before = [len(sink.arrived()) for _, sink in flows]

    def send() -> None:
        for number in range(BURST_FRAMES):
            sender, _ = flows[number % len(flows)]
            sender.send(_NUMBER.pack(number) + bytes(size(number) - _NUMBER.size))

    core.run_before_worker(send)
    for earlier, (_, sink) in zip(before, flows, strict=True):
        sink.await_arrivals(earlier + BURST_FRAMES // len(flows))
    return [sink.arrived()[earlier:] for earlier, (_, sink) in zip(before, flows, strict=True)]


def in_order(flows: int) -> list[list[int]]:
    """Return the result that a burst should give."""
    return [list(range(flow, BURST_FRAMES, flows)) for flow in range(flows)]


def check_turns(calls: Counter[str]) -> None:
    """Check that only usual calls were made, and that the loop turned twice a burst: to find it, and to
    sleep.

    A burst ends with the ring or is full; a heartbeat takes three turns, and another one may have begun.
    """
    assert set(calls) <= USUAL
    bursts = calls[NOTHING_TO_READ] + calls["read"] // BURST_FRAMES
    assert calls[WAIT] <= 2 * bursts + 3 * (calls[CLOCK] + 1)


def test_a_burst_of_one_flow_costs_a_read_for_each_and_one_write(lab: Lab) -> None:
    daemon = cable(lab)
    with connected(lab) as flows, Core(daemon.worker()) as core, Trace(lab, daemon.worker()) as trace:
        for _ in range(BURSTS):
            assert burst(core, flows) == in_order(1)
        calls = trace.calls()
    assert calls["read"] == BURSTS * BURST_FRAMES
    assert (calls["writev"], calls["write"]) == (BURSTS, 0)
    assert calls[NOTHING_TO_READ] <= BURSTS
    check_turns(calls)
    daemon.at_rest()


@pytest.mark.parametrize(
    ("size", "settings"),
    [(lambda number: 64 + number, {}), (lambda _: 64, {"coalesce": False})],
    ids=["each longer than the last", "coalesce = false"],
)
def test_datagrams_that_are_not_coalesced_cost_a_read_and_a_write_each(
    lab: Lab, size: Callable[[int], int], settings: dict[str, Any]
) -> None:
    daemon = cable(lab, **settings)
    with connected(lab) as flows, Core(daemon.worker()) as core, Trace(lab, daemon.worker()) as trace:
        for _ in range(BURSTS):
            assert burst(core, flows, size=size) == in_order(1)
        calls = trace.calls()
    assert calls["read"] == BURSTS * BURST_FRAMES
    assert (calls["writev"], calls["write"]) == (0, BURSTS * BURST_FRAMES)
    assert calls[NOTHING_TO_READ] <= BURSTS
    check_turns(calls)
    daemon.at_rest()


@pytest.mark.parametrize(("flows", "writes"), [(1, (1, 0)), (4, (4, 0)), (16, (0, BURST_FRAMES))])
def test_interleaved_flows_are_coalesced_where_worthwhile_and_keep_their_order(
    lab: Lab, flows: int, writes: Sequence[int]
) -> None:
    daemon = cable(lab)
    with connected(lab, flows) as used, Core(daemon.worker()) as core, Trace(lab, daemon.worker()) as trace:
        arrived = lab["blue"].links()["eth0"].rx_packets
        for _ in range(BURSTS):
            assert burst(core, used) == in_order(flows)
        calls = trace.calls()
    assert calls["read"] == BURSTS * BURST_FRAMES
    assert (calls["writev"], calls["write"]) == tuple(BURSTS * each for each in writes)
    assert lab["blue"].links()["eth0"].rx_packets == arrived + BURSTS * sum(writes)
    page, (superframes, _) = daemon.metrics(), writes
    joined = [page.value(f"epaird_coalesced_{each}_total", device="epair0b") for each in COALESCED]
    assert joined == [BURSTS * BURST_FRAMES * (superframes > 0), BURSTS * superframes]
    check_turns(calls)
    daemon.at_rest()


@pytest.mark.parametrize("flows", [1, 4, 16])
def test_a_datagram_is_read_and_written_once_at_most(lab: Lab, flows: int) -> None:
    daemon = cable(lab)
    before = frames(lab)
    with Trace(lab, daemon.worker()) as trace:
        datagrams(lab["red"], lab["blue"], BLUE, 8000 // flows, flows=flows, window=2000 // flows)
        calls = trace.calls()
    read, written = (now - then for now, then in zip(frames(lab), before, strict=True))
    assert calls["read"] == read >= 8000
    assert calls["writev"] + calls["write"] == written <= read
    check_turns(calls)
    daemon.at_rest()


def test_tcp_costs_a_read_and_a_write_for_a_super_frame(lab: Lab) -> None:
    daemon = cable(lab)
    octets, before = 20_000_000, frames(lab)
    with Trace(lab, daemon.worker()) as trace:
        tcp(lab["red"], lab["blue"], BLUE, octets)
        calls = trace.calls()
    read, written = (now - then for now, then in zip(frames(lab), before, strict=True))
    assert calls["read"] == calls["write"] == read == written
    assert calls.total() < octets / 8192
    check_turns(calls)
    daemon.at_rest()


def test_an_idle_worker_makes_only_its_heartbeat(lab: Lab) -> None:
    daemon = cable(lab, poll_spin_us=50)
    with Trace(lab, daemon.worker()) as trace:
        ping(lab["red"], BLUE)
        assert trace.calls()["read"] >= 10
        trace.reset()
        trace.wait_for_heartbeats(4)
        calls = trace.calls()
    assert set(calls) == {WAIT, CLOCK}
    assert calls[WAIT] <= 3 * (calls[CLOCK] + 1)


def frames(lab: Lab) -> tuple[int, int]:
    """Return how many frames the kernel has transmitted and received at both halves together."""
    ends = [lab[name].links()["eth0"] for name in ("red", "blue")]
    return sum(each.tx_packets for each in ends), sum(each.rx_packets for each in ends)
