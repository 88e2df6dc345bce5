"""A receiver that does not keep up: what is sent waits, nothing is lost, and traffic always starts again.

Half b is a port of a bridge, whose other port is slowed down.  With a small send buffer the device soon
takes no more, the worker's queue fills, and the sender's ring after it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.page import Page
from tests.scenarios.transfers import RawSocket, Sink, frame, number_of, ping, send
from tests.waiting import until

pytestmark = pytest.mark.real

NEIGHBOUR = bytes.fromhex("02f00d000001")
"""Whom the bridge does not know, so that frames for it go out by the other port; not a copy, as of a
broadcast, but the frame itself, which is what the send buffer is charged for."""
QUEUE_LIMIT = 20
OTHER = "10.0.1.2"
"""Blue, by another pair."""


@dataclass(frozen=True, slots=True)
class Slowed:
    """A cable from red to a bridge in blue, and from there a slow link to green."""

    daemon: Daemon
    blue: Namespace
    red: RawSocket
    green: RawSocket

    def fill(self, frames: int) -> Page:
        """Send so many numbered frames; then wait until the queue is full and the sender is told."""
        for number in range(frames):
            self.send(number)
        until(lambda: self.daemon.metrics().worker().oactive, lambda: self.daemon.metrics().text.decode())
        return self.daemon.metrics()

    def send(self, number: int) -> None:
        """Send a frame that takes two minutes at the slow rate."""
        self.red.send(frame(0x88B5, 1000, to=NEIGHBOUR, number=number))

    def open(self) -> None:
        """Make the slow link a fast one."""
        self.blue.tc("qdisc change dev slow root tbf rate 1gbit burst 1mb limit 1mb")
        # The next frame sets it going; else it would go on only when its last one was due at the old rate.
        self.occupy()

    def occupy(self) -> None:
        """Send a frame of our own over the slow link."""
        with RawSocket(self.blue, "slow") as slow:
            slow.send(NEIGHBOUR + NEIGHBOUR + bytes(1000))

    def receive(self, frames: int) -> list[int]:
        """The numbers of the next frames that come out at the end."""
        return [number_of(self.green.receive()) for _ in range(frames)]


def slowed(
    lab: Lab, more: str = "", *, queue_limit: int = QUEUE_LIMIT, txqueuelen: int = 1000, **daemon: object
) -> Slowed:
    """Make it, on one worker; ``more`` is further pairs, and ``daemon`` further settings."""
    for name in ("red", "blue", "green"):
        lab.namespace(name, ipv6=False)
    blue, green = lab["blue"], lab["green"]
    blue.ip("link add bridge type bridge mcast_snooping 0")  # or it sends frames of its own
    blue.ip(f"link add slow type veth peer name fast netns {green}")
    green.ip("link set fast up")
    pairs = pair(a={"addresses": [], "txqueuelen": txqueuelen}, b={"addresses": [], "sndbuf": 4096}) + more
    carrying = lab.daemon(pairs, workers=1, queue_limit=queue_limit, **daemon)
    for port in ("eth0", "slow"):
        blue.ip(f"link set {port} master bridge up")
    blue.ip("link set bridge up")
    until(lambda: blue.ip("-d -j link show master bridge").count('"state":"forwarding"') == 2)
    blue.tc("qdisc add dev slow root tbf rate 64bit burst 1100 limit 1mb")
    cable = Slowed(carrying, blue, RawSocket(lab["red"], "eth0"), RawSocket(green, "fast"))
    cable.occupy()  # else the first of what is sent would pass at once
    return cable


@pytest.mark.parametrize("queue_limit", [QUEUE_LIMIT, 1])
def test_traffic_flows_again_after_a_stall(lab: Lab, queue_limit: int) -> None:
    cable = slowed(lab, queue_limit=queue_limit)
    page = cable.fill(100)
    worker, a, b = page.worker(), page.interface("epair0a"), page.interface("epair0b")
    assert worker.drain_list_interfaces == 1
    assert worker.queue_frames == worker.queue_limit_frames == queue_limit
    assert a.refs == 2  # for the drain list
    assert b.refs == 1 + worker.queue_frames
    assert a.opackets == b.ipackets + worker.queue_frames
    assert a.opackets < 100
    cable.open()
    assert cable.receive(100) == list(range(100))
    page = cable.daemon.at_rest()
    assert page.interface("epair0b").ipackets == 100
    assert page.worker().oactive == page.worker().drain_list_interfaces == 0
    cable.send(7)
    assert cable.receive(1) == [7]


def test_what_the_ring_cannot_hold_is_oqdrops(lab: Lab) -> None:
    ring = 30
    cable = slowed(lab, txqueuelen=ring)
    page = cable.fill(100)
    for number in range(100, 200):
        cable.send(number)
    kept = page.interface("epair0b").ipackets + QUEUE_LIMIT + ring
    assert cable.daemon.metrics().interface("epair0a").oqdrops == 200 - kept
    cable.open()
    numbers = cable.receive(kept)
    assert numbers == sorted(set(numbers))
    assert cable.daemon.at_rest().interface("epair0a").opackets == kept


def test_who_waits_for_another_pairs_stall_goes_on_after_it(lab: Lab) -> None:
    cable = slowed(lab, pair(1, ipv6=False))
    red, blue = lab["red"], lab["blue"]
    ping(red, OTHER, count=1)
    cable.fill(100)
    with Sink(blue, OTHER) as sink:
        send(red, OTHER, sink.port, range(50))
        until(lambda: cable.daemon.metrics().worker().drain_list_interfaces == 2)
        assert not sink.arrived()
        cable.open()
        sink.await_arrivals(50)
        assert sink.arrived() == list(range(50))
    assert cable.receive(100) == list(range(100))
    cable.daemon.at_rest()


def test_a_receiver_deleted_in_a_stall_lets_the_others_go_on(lab: Lab) -> None:
    cable = slowed(lab, pair(1, ipv6=False))
    red, blue = lab["red"], lab["blue"]
    ping(red, OTHER, count=1)
    cable.fill(100)
    with Sink(blue, OTHER) as sink:
        send(red, OTHER, sink.port, range(50))
        until(lambda: cable.daemon.metrics().worker().drain_list_interfaces == 2)
        blue.ip("link del eth0")
        sink.await_arrivals(50)
        assert sink.arrived() == list(range(50))
    page = cable.daemon.at_rest()
    assert page.pairs() == ["epair1"]
    assert page.worker().queue_frames == page.worker().drain_list_interfaces == page.worker().oactive == 0
    cable.daemon.assert_sleeps()


def test_a_receiver_that_goes_down_in_a_stall_loses_what_waited_for_it(lab: Lab) -> None:
    cable = slowed(lab)
    cable.fill(100)
    cable.blue.ip("link set eth0 down")
    cable.open()
    page = cable.daemon.at_rest()
    a, b = page.interface("epair0a"), page.interface("epair0b")
    assert b.ierrors["peer_down"] > 0
    assert b.ipackets + b.ierrors["peer_down"] + a.oerrors["peer_down"] == 100
    cable.daemon.assert_sleeps()


def test_a_worker_killed_in_a_stall_loses_what_it_held(lab: Lab) -> None:
    cable = slowed(lab)
    before = cable.fill(100).interface("epair0b").ipackets
    os.kill(cable.daemon.worker(), signal.SIGKILL)
    cable.daemon.wait_for_log("again")
    cable.open()
    until(lambda: cable.daemon.metrics().interface("epair0a").opackets == 100)
    page = cable.daemon.at_rest()
    b = page.interface("epair0b")
    assert b.ierrors["worker_lost"] == QUEUE_LIMIT
    assert b.ipackets == 100 - QUEUE_LIMIT
    assert cable.receive(b.ipackets) == [*range(before), *range(before + QUEUE_LIMIT, 100)]


def test_a_daemon_that_ends_lets_arrive_what_it_holds(lab: Lab) -> None:
    cable = slowed(lab, drain_timeout=60)
    held = cable.fill(100).worker().queue_frames
    before = cable.daemon.metrics().interface("epair0b").ipackets
    cable.daemon.signal(signal.SIGTERM)
    cable.daemon.wait_for_log("stopping")
    cable.open()
    assert cable.receive(before + held) == list(range(before + held))
    cable.daemon.assert_clean_exit(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_ends_in_a_stall_leaves_nothing(lab: Lab, number: int) -> None:
    cable = slowed(lab)
    cable.fill(100)
    cable.daemon.stop(number)
